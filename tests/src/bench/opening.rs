//! The time to open a connection, and the rate at which connections can be opened.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use super::{
    Benchmark, Options,
    figures::{Sheet, Spread, at_least, at_most},
    flow::EchoStreams,
    peers::{Peer, Who, call},
    place::Place,
    target::Wish,
    wire,
};

pub(super) const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        id: "first-byte",
        name: "new connection to first byte, 100 Mbit/s 40 ms",
        bar: "one round trip + 2 ms",
        aim: "one round trip + 0.5 ms",
        run: first_byte,
    },
    Benchmark {
        id: "opens",
        name: "new connections per second, no delay",
        bar: "3 x ssh -L",
        aim: "10 x",
        run: opens,
    },
];

/// Number of connections that are opened one after the other. Their median is the result.
const TRIES: usize = 25;

/// Number of callers that open connections in parallel.
const CALLERS: usize = 12;

const ALL: [Who; 4] = [Who::Raw, Who::Ssh, Who::Dumbpipe, Who::Product];

fn first_byte(options: &Options) -> Result<Sheet> {
    let place = Place::up(wire::CLEAN)?;
    let mut sheet = Sheet::default();
    let peers = Peer::start_all(options, &place, &ALL)?;
    let what = "connect, request, first byte";
    let trip = "request on an open connection";
    let mut late = Vec::new();
    for round in 0..options.rounds {
        for peer in &peers {
            let name = peer.who.name();
            let asked =
                EchoStreams::open(&place, peer, 1)?.ask(options.warm_up, Duration::from_millis(10))?;
            let asked = Spread::of(&asked).context("there was no response")?.median;
            sheet.add(trip, name, "ms", asked);
            let entrance = peer.entrance(&place);
            let took = place.lab.laptop().enter(|| tries(entrance))??;
            let took = Spread::of(&took).context("no connection was opened")?.median;
            sheet.add(what, name, "ms", took);
            options.tell(round, what, name, took, "ms");
        }
        let last = |what: &str, who: Who| sheet.values(what, who.name()).last().copied();
        if let (Some(took), Some(trip)) = (last(what, Who::Product), last(trip, Who::Raw)) {
            late.push(took - trip);
        }
    }
    sheet.judge("first byte, above one round trip", "ms", late, at_most(2.0, 0.5));
    drop(peers);
    place.down()?;
    Ok(sheet)
}

/// The time of each connection in milliseconds.
fn tries(entrance: SocketAddr) -> Result<Vec<f64>> {
    let one = |_| -> Result<f64> {
        let start = Instant::now();
        call(entrance, Wish::Once)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    (0..TRIES).map(one).collect()
}

fn opens(options: &Options) -> Result<Sheet> {
    let place = Place::up(wire::VETH)?;
    let mut sheet = Sheet::default();
    let peers = Peer::start_all(options, &place, &ALL)?;
    let what = "answered connections";
    for round in 0..options.rounds {
        for peer in &peers {
            let entrance = peer.entrance(&place);
            let count = place.lab.laptop().enter(|| count(entrance, options.length))??;
            let rate = count as f64 / options.length.as_secs_f64();
            sheet.add(what, peer.who.name(), "1/s", rate);
            options.tell(round, what, peer.who.name(), rate, "1/s");
            place.settle()?;
        }
    }
    sheet.judge_ratio(what, Who::Product.name(), Who::Ssh.name(), at_least(3.0, 10.0));
    drop(peers);
    place.down()?;
    Ok(sheet)
}

/// The number of connections that can be opened within `length`.
fn count(entrance: SocketAddr, length: Duration) -> Result<usize> {
    let deadline = Instant::now() + length;
    thread::scope(|scope| {
        let callers = (0..CALLERS).map(|_| {
            scope.spawn(move || -> Result<usize> {
                let mut count = 0;
                while Instant::now() < deadline {
                    call(entrance, Wish::Once)?;
                    count += 1;
                }
                Ok(count)
            })
        });
        let callers: Vec<_> = callers.collect();
        let counts = callers
            .into_iter()
            .map(|caller| caller.join().map_err(|_| anyhow!("a caller panicked"))?);
        counts.sum()
    })
}
