//! Exhausted resources: descriptors, a slow reader's buffers, the link's capacity.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{
    Bench, Limit, Outcome, Scenario,
    clock::{each_second, last},
    process::Process,
    site::Plan,
};
use crate::{
    eventually,
    oracle::{End, Job, Pace, Stream},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "F24",
        name: "the client has no free descriptors",
        bar: "CPU < 10 %, recovers within 1 s",
        quick: true,
        engine: false,
        run: out_of_descriptors,
    },
    Scenario {
        id: "F25",
        name: "one stopped reader beside ten fast ones, in each direction",
        bar: "the ten keep 95 % of their rate",
        quick: true,
        engine: false,
        run: stopped_reader,
    },
    Scenario {
        id: "F26",
        name: "64 streams saturated in both directions over small queues",
        bar: "progress in each second and each direction",
        quick: true,
        engine: false,
        run: saturated,
    },
];

const SOON: Duration = Duration::from_secs(20);

fn out_of_descriptors(_: &Bench) -> Result<Outcome> {
    const WAITING: usize = 40;
    let site = Plan::default().up()?;
    let client = site.client_process();
    let before = site.caller.echo(Duration::from_millis(20));
    eventually("echoes", SOON, || before.near().answers() > 5)?;
    let open = client.descriptors().context("the client ended")?;
    // As the client's user: on some systems even root may not change the limits of other users' processes.
    let limit = |soft: &str| {
        let pid = client.0.as_raw_nonzero();
        site.lab
            .laptop()
            .run(&format!("prlimit --pid {pid} --nofile={soft}:"))
            .map(drop)
    };
    let usual = site.lab.laptop().run("ulimit -Sn")?;
    limit(&(open + 4).to_string())?;
    let streams: Vec<_> = (0..WAITING).map(|_| site.caller.idle()).collect();
    streams.iter().for_each(Stream::ask);
    let answered = || {
        streams
            .iter()
            .filter(|stream| stream.near().answers() == 1)
            .count()
    };
    last(Duration::from_secs(1));
    let [load] = Process::loads([client], Duration::from_secs(5))?;
    ensure!(answered() < WAITING, "the descriptor limit blocked no connection");
    let meanwhile = before
        .near()
        .round_trips(Instant::now() - Duration::from_secs(3))
        .len();
    ensure!(
        meanwhile > 20,
        "an open stream was blocked too: {meanwhile} answers in 3 s"
    );
    let start = Instant::now();
    limit(usual.trim())?;
    eventually("all to be answered", SOON, || answered() == WAITING)?;
    let recovered = start.elapsed();
    for stream in streams.iter().chain([&before]) {
        stream.finish();
        stream.complete(SOON)?;
    }
    site.finish()?;
    Ok(Outcome::default()
        .with("CPU", load, "%", Limit::AtMost(10.0))
        .seconds("recovered", recovered, 1.0))
}

/// Bytes per second that arrive on all streams together.
fn rate(streams: &[Stream], length: Duration) -> f64 {
    let arrived = || streams.iter().map(Stream::arrived).sum::<u64>();
    let (start, before) = (Instant::now(), arrived());
    last(length);
    (arrived() - before) as f64 / start.elapsed().as_secs_f64()
}

/// The higher of two measurements, because other processes on the machine can only lower it.
fn best_rate(streams: &[Stream]) -> f64 {
    let look = || rate(streams, Duration::from_secs(2));
    look().max(look())
}

fn stopped_reader(_: &Bench) -> Result<Outcome> {
    let site = Plan::default().up()?;
    let mut outcome = Outcome::default();
    for (what, job) in [
        (
            "downloads keep",
            Job::Bulk {
                up: 0,
                down: u64::MAX,
            },
        ),
        (
            "uploads keep",
            Job::Bulk {
                up: u64::MAX,
                down: 0,
            },
        ),
    ] {
        // It starts first, so that it fills all its buffers before the others start.
        let slow = site.caller.open(job);
        let reader = if what.starts_with("down") {
            slow.near()
        } else {
            slow.far()
        };
        reader.order(|orders| orders.pace = Pace::Stopped);
        let sent = || slow.near().sent() + slow.far().sent();
        eventually("the stopped stream to stall", SOON, || {
            let before = sent();
            last(Duration::from_secs(1));
            before > 0 && sent() == before
        })?;
        let fast: Vec<_> = (0..10).map(|_| site.caller.open(job)).collect();
        last(Duration::from_secs(2));
        let beside = best_rate(&fast);
        // It now reads everything that was sent, and ends.
        slow.finish();
        slow.complete(SOON)?;
        last(Duration::from_secs(1));
        let alone = best_rate(&fast);
        outcome = outcome.with(what, 100.0 * beside / alone, "%", Limit::AtLeast(95.0));
        over(&fast)?;
    }
    site.finish()?;
    Ok(outcome)
}

/// Resets the streams: the bytes that arrived are verified already, and reading the kernel's buffers would take minutes.
fn over(streams: &[Stream]) -> Result<()> {
    streams.iter().for_each(Stream::reset);
    eventually("the streams to end", SOON, || {
        let mut sides = streams.iter().flat_map(|stream| [stream.near(), stream.far()]);
        sides.all(|side| !matches!(side.end(), End::Open))
    })
}

fn saturated(_: &Bench) -> Result<Outcome> {
    let mut plan = Plan::default();
    plan.link.rate = Some(50_000_000);
    plan.link.queue = 64_000;
    let site = plan.up()?;
    let job = Job::Bulk {
        up: u64::MAX,
        down: u64::MAX,
    };
    let streams: Vec<_> = (0..64).map(|_| site.caller.open(job)).collect();
    let moving = |stream: &Stream| stream.near().received() > 0 && stream.far().received() > 0;
    eventually("bytes on every stream, in both directions", SOON, || {
        streams.iter().all(moving)
    })?;
    for stream in &streams {
        stream.near().forget_silence();
        stream.far().forget_silence();
    }
    let count = || {
        let up: u64 = streams.iter().map(|stream| stream.far().received()).sum();
        let down: u64 = streams.iter().map(|stream| stream.near().received()).sum();
        [up, down]
    };
    let (mut before, mut still) = (count(), 0);
    each_second(8, |_| {
        let now = count();
        still += u32::from(now[0] == before[0]) + u32::from(now[1] == before[1]);
        before = now;
        site.check_no_violation()
    })?;
    let silences = streams
        .iter()
        .flat_map(|stream| [stream.near().longest_silence(), stream.far().longest_silence()]);
    let worst = silences.max().unwrap_or_default();
    over(&streams)?;
    site.caller.try_once(SOON)?;
    site.finish()?;
    Ok(Outcome::default()
        .with("seconds without progress", still.into(), "", Limit::AtMost(0.0))
        .seconds("longest silence of a stream", worst, 5.0))
}
