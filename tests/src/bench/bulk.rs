//! Bulk throughput.

use anyhow::Result;

use super::{
    Benchmark, Options,
    figures::{Sheet, at_least},
    flow::{Direction, Flow, rates},
    peers::{Peer, Who},
    place::Place,
    wire::{self, Kind, Wire},
};

pub(super) const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        id: "bulk-machine",
        name: "bulk, no delay: the machine is the limit",
        bar: "1.2 x ssh -L aes128-gcm",
        aim: "2 x",
        run: |options| bulk(options, wire::VETH, machine),
    },
    Benchmark {
        id: "bulk-clean",
        name: "bulk, 100 Mbit/s 40 ms clean",
        bar: "0.97 x raw TCP",
        aim: "1.0 x",
        run: |options| bulk(options, wire::CLEAN, clean),
    },
    Benchmark {
        id: "bulk-loss",
        name: "bulk, 100 Mbit/s 40 ms, 1 % random loss",
        bar: "85 % of the link; 10 x ssh -L",
        aim: "92 %",
        run: |options| bulk(options, wire::LOSS, lossy),
    },
    Benchmark {
        id: "bulk-bursts",
        name: "bulk, 100 Mbit/s 40 ms, 1 % loss in bursts",
        bar: "85 % of the link; 10 x ssh -L",
        aim: "92 %",
        run: |options| bulk(options, wire::BURSTS, lossy),
    },
    Benchmark {
        id: "bulk-long",
        name: "bulk, 300 Mbit/s 80 ms, 0.1 % loss",
        bar: "85 % of the link",
        aim: "93 %",
        run: |options| bulk(options, wire::LONG, long),
    },
    Benchmark {
        id: "bulk-slow",
        name: "bulk, 20 Mbit/s 150 ms, one-second queue",
        bar: "none",
        aim: "none",
        run: |options| bulk(options, wire::SLOW, |_, _, _| ()),
    },
    Benchmark {
        id: "bulk-gateway",
        name: "bulk, 100 Mbit/s 40 ms, through the gateway",
        bar: "0.97 x direct raw TCP",
        aim: "1.0 x",
        run: |options| bulk(options, wire::GATEWAY, clean),
    },
];

const UNIT: &str = "Mbit/s";

/// Numbers of parallel streams.
const STREAMS: [usize; 2] = [1, 8];

type Judge = fn(&mut Sheet, &str, Wire);

fn bulk(options: &Options, wire: Wire, judge: Judge) -> Result<Sheet> {
    let place = Place::up(wire)?;
    let mut sheet = Sheet::default();
    let is_limited = wire.rate.is_some();
    let mut all = vec![Who::Raw, Who::Ssh, Who::SshAes];
    if wire.kind != Kind::Gateway {
        all.push(Who::Dumbpipe);
    }
    all.push(Who::Product);
    if is_limited && options.bbr {
        all.extend([Who::RawBbr, Who::SshAesBbr]);
    }
    let peers = Peer::start_all(options, &place, &all)?;
    for round in 0..options.rounds {
        for streams in STREAMS {
            for direction in Direction::BOTH {
                let what = situation(direction, streams);
                for peer in &peers {
                    let is_second_column = matches!(peer.who, Who::RawBbr | Who::SshAesBbr);
                    if streams > 1 && is_second_column {
                        continue;
                    }
                    let rate = rate(&place, peer, direction, streams, options)?;
                    sheet.add(&what, peer.who.name(), UNIT, rate);
                    options.tell(round, &what, peer.who.name(), rate, UNIT);
                }
            }
        }
    }
    for streams in STREAMS {
        for direction in Direction::BOTH {
            judge(&mut sheet, &situation(direction, streams), wire);
        }
    }
    drop(peers);
    place.down()?;
    Ok(sheet)
}

fn situation(direction: Direction, streams: usize) -> String {
    let count = if streams == 1 {
        "one stream"
    } else {
        "eight streams"
    };
    format!("{}, {count}", direction.name())
}

/// The throughput of `streams` together, after they have started.
pub(super) fn rate(
    place: &Place,
    peer: &Peer,
    direction: Direction,
    streams: usize,
    options: &Options,
) -> Result<f64> {
    let flows = Flow::start_many(place, peer, direction, streams)?;
    rates([&flows], options.warm_up)?;
    let [rate] = rates([&flows], options.length)?;
    drop(flows);
    place.settle()?;
    Ok(rate)
}

fn machine(sheet: &mut Sheet, what: &str, _: Wire) {
    sheet.judge_ratio(what, Who::Product.name(), Who::SshAes.name(), at_least(1.2, 2.0));
}

fn clean(sheet: &mut Sheet, what: &str, _: Wire) {
    sheet.judge_ratio(what, Who::Product.name(), Who::Raw.name(), at_least(0.97, 1.0));
}

fn lossy(sheet: &mut Sheet, what: &str, wire: Wire) {
    share(sheet, what, wire, 85.0, 92.0);
    // Only for one stream: with eight streams ssh still has one TCP connection.
    sheet.judge_ratio(what, Who::Product.name(), Who::Ssh.name(), at_least(10.0, 10.0));
}

fn long(sheet: &mut Sheet, what: &str, wire: Wire) {
    share(sheet, what, wire, 85.0, 93.0);
}

fn share(sheet: &mut Sheet, what: &str, wire: Wire, bar: f64, aim: f64) {
    let Some(rate) = wire.rate else { return };
    let values = sheet.values(what, Who::Product.name());
    let shares = values.iter().map(|value| value / rate as f64 * 100.0).collect();
    sheet.judge(
        format!("{what}, share of the link"),
        "%",
        shares,
        at_least(bar, aim),
    );
}
