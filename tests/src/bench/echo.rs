//! Echo latency beside bulk transfers in both directions.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{
    Benchmark, Options,
    figures::{Sheet, at_most, percentile},
    flow::{Direction, EchoStreams, Flow, rates},
    peers::{Peer, Who},
    place::Place,
    wire::{self, Wire},
};

pub(super) const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        id: "echo-clean",
        name: "64-byte echo during bulk transfers in both directions, 100 Mbit/s 40 ms",
        bar: "p99 <= idle + 20 ms",
        aim: "idle + 5 ms",
        run: |options| echo(options, wire::CLEAN, 20.0, 5.0),
    },
    Benchmark {
        id: "echo-slow",
        name: "64-byte echo during bulk transfers in both directions, 20 Mbit/s 150 ms, one-second queue",
        bar: "p99 <= idle + 60 ms",
        aim: "idle + 20 ms",
        run: |options| echo(options, wire::SLOW, 60.0, 20.0),
    },
];

/// Number of echo streams. With this many, a few seconds give enough samples for a meaningful p99.
const STREAMS: usize = 8;

const PAUSE: Duration = Duration::from_millis(20);

const UNIT: &str = "ms";

fn echo(options: &Options, wire: Wire, bar: f64, aim: f64) -> Result<Sheet> {
    let place = Place::up(wire)?;
    let mut sheet = Sheet::default();
    let peers = Peer::start_all(
        options,
        &place,
        &[Who::Raw, Who::Ssh, Who::Dumbpipe, Who::Product],
    )?;
    for round in 0..options.rounds {
        for peer in &peers {
            let name = peer.who.name();
            let echoes = EchoStreams::open(&place, peer, STREAMS)?;
            let mut put = |what: &str, value: f64, unit: &str| {
                sheet.add(what, name, unit, value);
                options.tell(round, what, name, value, unit);
            };
            let took = echoes.ask(options.length, PAUSE)?;
            put("idle, p50", nth(&took, 50.0)?, UNIT);
            put("idle, p99", nth(&took, 99.0)?, UNIT);
            let flows = Direction::BOTH.map(|direction| Flow::start_many(&place, peer, direction, 1));
            let [down, up] = flows;
            let (down, up) = (down?, up?);
            // The queues need some time to fill.
            rates([&down, &up], options.warm_up * 2)?;
            let (took, carried) = std::thread::scope(|scope| {
                let carried = scope.spawn(|| rates([&down, &up], options.length));
                (echoes.ask(options.length, PAUSE), carried.join())
            });
            let (took, [down_rate, up_rate]) = (took?, carried.ok().context("no rates")??);
            put("beside bulk, p50", nth(&took, 50.0)?, UNIT);
            put("beside bulk, p99", nth(&took, 99.0)?, UNIT);
            put("bulk down during the echo", down_rate, "Mbit/s");
            put("bulk up during the echo", up_rate, "Mbit/s");
            drop((down, up, echoes));
            place.settle()?;
        }
    }
    let [loaded, idle] =
        ["beside bulk, p99", "idle, p99"].map(|what| sheet.values(what, Who::Product.name()));
    let late = loaded.iter().zip(idle).map(|(loaded, idle)| loaded - idle);
    sheet.judge(
        "p99 beside bulk, above idle",
        UNIT,
        late.collect(),
        at_most(bar, aim),
    );
    drop(peers);
    place.down()?;
    Ok(sheet)
}

fn nth(sorted: &[f64], share: f64) -> Result<f64> {
    percentile(sorted, share).context("nothing was answered")
}
