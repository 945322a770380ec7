//! Sharing a link with another TCP connection.

use anyhow::Result;

use super::{
    Benchmark, Options,
    figures::{Sheet, at_least},
    flow::{Direction, Flow, rates},
    peers::{Peer, Who},
    place::Place,
    wire,
};

pub(super) const BENCHMARKS: &[Benchmark] = &[Benchmark {
    id: "fairness",
    name: "beside one raw TCP Cubic flow, 100 Mbit/s 40 ms clean",
    bar: "neither below 25 % of the link",
    aim: "40 %",
    run: fairness,
}];

/// The factor by which the measurement is longer than usual: flows that share a link need more time to converge.
const PATIENCE: u32 = 2;

fn fairness(options: &Options) -> Result<Sheet> {
    let wire = wire::CLEAN;
    let place = Place::up(wire)?;
    let mut sheet = Sheet::default();
    let raw = Peer::start(&place, Who::Raw)?;
    let peers = Peer::start_all(
        options,
        &place,
        &[Who::Raw, Who::SshAes, Who::Dumbpipe, Who::Product],
    )?;
    let whole = wire.rate.unwrap_or_default() as f64;
    let (own, other) = (
        |direction: Direction| format!("{}: share of the peer", direction.name()),
        |direction: Direction| format!("{}: share of raw TCP", direction.name()),
    );
    for round in 0..options.rounds {
        for direction in Direction::BOTH {
            for peer in &peers {
                // The first flow has an advantage, so the two take turns in starting first.
                let (mine, theirs) = if round % 2 == 0 {
                    let mine = Flow::start_many(&place, peer, direction, 1)?;
                    (mine, Flow::start_many(&place, &raw, direction, 1)?)
                } else {
                    let theirs = Flow::start_many(&place, &raw, direction, 1)?;
                    (Flow::start_many(&place, peer, direction, 1)?, theirs)
                };
                rates([&mine, &theirs], options.warm_up * PATIENCE)?;
                let shares = rates([&mine, &theirs], options.length * PATIENCE)?;
                let name = peer.who.name();
                for (what, rate) in [own(direction), other(direction)].iter().zip(shares) {
                    let share = rate / whole * 100.0;
                    sheet.add(what, name, "% of the link", share);
                    options.tell(round, what, name, share, "%");
                }
                drop((mine, theirs));
                place.settle()?;
            }
        }
    }
    for direction in Direction::BOTH {
        for what in [own(direction), other(direction)] {
            let shares = sheet.values(&what, Who::Product.name());
            sheet.judge(what, "% of the link", shares, at_least(25.0, 40.0));
        }
    }
    drop((peers, raw));
    place.down()?;
    Ok(sheet)
}
