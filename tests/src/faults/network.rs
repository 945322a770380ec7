//! Links with loss, reordering, corruption, an MTU black hole and delay.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    Bench, Limit, Outcome, Scenario,
    clock::{last, percentile},
    site::Plan,
    trio::Trio,
};
use crate::{
    eventually,
    lab::{Conditions, Loss},
    oracle::Job,
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "F1",
        name: "random and bursty loss up to 8 %",
        bar: "all streams continue",
        quick: true,
        engine: false,
        run: loss,
    },
    Scenario {
        id: "F2",
        name: "25 % reordered, 5 % duplicated, 1 % corrupted, 50 ms jitter",
        bar: "all streams continue",
        quick: true,
        engine: false,
        run: disorder,
    },
    Scenario {
        id: "F6",
        name: "packets of more than 1280 bytes are dropped silently during a transfer",
        bar: "progress within 3 s",
        quick: true,
        engine: false,
        run: black_hole,
    },
    Scenario {
        id: "F8",
        name: "bulk beside an echo on 100 Mbit/s with a deep queue",
        bar: "echo p95 <= ping + 50 ms (a goal, not a limit)",
        quick: true,
        engine: false,
        run: deep_queue,
    },
];

/// Bytes in each direction of the transfer over a bad link. Its speed is not judged here, but by the benchmarks.
const AMOUNT: u64 = 600_000;

const PATIENCE: Duration = Duration::from_secs(60);

/// A change of the link's conditions.
type Change = fn(&mut Conditions);

/// Runs a transfer and an echo under each of these conditions. Returns the duration of the transfer and the slowest echo.
fn measure_under(changes: &[(&'static str, Change)]) -> Result<Outcome> {
    let site = Plan::default().up()?;
    let mut outcome = Outcome::default();
    for (what, change) in changes {
        site.lab.link().set(change);
        let start = Instant::now();
        let echo = site.caller.echo(Duration::from_millis(50));
        let bulk = site.caller.open(Job::Bulk {
            up: AMOUNT,
            down: AMOUNT,
        });
        bulk.complete(PATIENCE)?;
        let took = start.elapsed();
        let slowest = percentile(&echo.near().round_trips(start), 1.0);
        echo.finish();
        echo.complete(PATIENCE)?;
        outcome = outcome.with(what, took.as_secs_f64(), "s", Limit::Told).with(
            "slowest echo",
            slowest.as_secs_f64(),
            "s",
            Limit::Told,
        );
    }
    site.lab.link().set(|link| *link = clean(link));
    site.finish()?;
    Ok(outcome)
}

fn clean(link: &Conditions) -> Conditions {
    Conditions {
        delay: link.delay,
        rate: link.rate,
        queue: link.queue,
        ..Conditions::default()
    }
}

fn loss(_: &Bench) -> Result<Outcome> {
    measure_under(&[
        ("1 %", |link| link.loss = Loss::random(0.01)),
        ("3 %", |link| link.loss = Loss::random(0.03)),
        ("8 %", |link| link.loss = Loss::random(0.08)),
        ("8 % in bursts", |link| link.loss = Loss::bursts(0.08, 8.0)),
    ])
}

fn disorder(_: &Bench) -> Result<Outcome> {
    measure_under(&[("transfer", |link| {
        link.reorder = 0.25;
        link.duplicate = 0.05;
        link.corrupt = 0.01;
        link.delay = Duration::from_millis(60);
        link.jitter = Duration::from_millis(50);
    })])
}

fn black_hole(_: &Bench) -> Result<Outcome> {
    let site = Plan::default().up()?;
    let trio = Trio::start(&site)?;
    // Wait until QUIC's path MTU discovery has reached the largest packet.
    last(Duration::from_secs(2));
    site.lab.link().set(|link| link.mtu = Some(1280));
    // Packets in flight still arrive.
    last(Duration::from_millis(100));
    let mark = trio.mark();
    let progress = trio.moved_since(&mark, 500_000)?;
    site.lab.link().set(|link| link.mtu = None);
    let mark = trio.mark();
    trio.moved_since(&mark, 1_000_000)?;
    trio.end()?;
    site.finish()?;
    Ok(Outcome::default().seconds("progress", progress, 3.0))
}

fn deep_queue(_: &Bench) -> Result<Outcome> {
    let mut plan = Plan::rtt(Duration::from_millis(40));
    plan.link.queue = 2_000_000;
    let site = plan.up()?;
    let echo = site.caller.echo(Duration::from_millis(20));
    eventually("echoes", PATIENCE, || echo.near().answers() > 50)?;
    let ping = percentile(&echo.near().round_trips(Instant::now() - PATIENCE), 0.5);
    let mut outcome = Outcome::default().with("ping", ping.as_secs_f64() * 1e3, "ms", Limit::Told);
    for (what, job) in [
        (
            "p95 beside a download",
            Job::Bulk {
                up: 0,
                down: u64::MAX,
            },
        ),
        (
            "p95 beside an upload",
            Job::Bulk {
                up: u64::MAX,
                down: 0,
            },
        ),
    ] {
        let bulk = site.caller.open(job);
        last(Duration::from_secs(2));
        let start = Instant::now();
        last(Duration::from_secs(4));
        let p95 = percentile(&echo.near().round_trips(start), 0.95);
        let wish = Limit::Wished((ping.as_secs_f64() * 1e3 + 50.0).round());
        outcome = outcome.with(what, p95.as_secs_f64() * 1e3, "ms", wish);
        bulk.finish();
        bulk.complete(PATIENCE)?;
    }
    echo.finish();
    echo.complete(PATIENCE)?;
    site.finish()?;
    Ok(outcome)
}
