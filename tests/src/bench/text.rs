//! A table as text, on a link that is slower than compression.

use anyhow::Result;

use super::{
    Benchmark, Options,
    figures::Sheet,
    flow::{Flow, rates},
    peers::{Peer, Who},
    place::Place,
    target::Wish,
    wire,
};

pub(super) const BENCHMARKS: &[Benchmark] = &[Benchmark {
    id: "text",
    name: "a table as text, down one stream, 20 Mbit/s 150 ms, one-second queue",
    bar: "none",
    aim: "none",
    run: text,
}];

const WHAT: &str = "of the table";

const UNIT: &str = "Mbit/s";

fn text(options: &Options) -> Result<Sheet> {
    let place = Place::up(wire::SLOW)?;
    let mut sheet = Sheet::default();
    let all = [
        Who::Raw,
        Who::Ssh,
        Who::SshCompressed,
        Who::Product,
        Who::ProductPlain,
    ];
    let peers = Peer::start_all(options, &place, &all)?;
    for round in 0..options.rounds {
        for peer in &peers {
            let flow = [Flow::down(&place, peer, Wish::Table)?];
            rates([&flow], options.warm_up)?;
            let [rate] = rates([&flow], options.length)?;
            drop(flow);
            place.settle()?;
            sheet.add(WHAT, peer.who.name(), UNIT, rate);
            options.tell(round, WHAT, peer.who.name(), rate, UNIT);
        }
    }
    drop(peers);
    place.down()?;
    Ok(sheet)
}
