//! The time from the start of `jq-client connect` to usable ports.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Benchmark, Options,
    figures::{Sheet, at_most},
    peers::{PRODUCT, product_words},
    place::Place,
    process::forget,
    wire::{self, Wire},
};
use crate::{
    lab::HostName,
    product::{self, Client},
};

pub(super) const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        id: "connect",
        name: "time to connect, 100 Mbit/s 40 ms, agent installed",
        bar: "first: 1.3 x `ssh HOST true`; second: 3 round trips + 50 ms",
        aim: "first: faster than `ssh HOST true`; second: 2 round trips + 20 ms",
        run: |options| connects(options, wire::CLEAN),
    },
    Benchmark {
        id: "connect-gateway",
        name: "time to connect through the gateway, 100 Mbit/s 40 ms, agent installed",
        bar: "first: 1.3 x `ssh HOST true`; second: 3 round trips + 50 ms",
        aim: "first: faster than `ssh HOST true`; second: 2 round trips + 20 ms",
        run: |options| connects(options, wire::GATEWAY),
    },
    Benchmark {
        id: "size",
        name: "agent: file size, and bytes of its upload on the link",
        bar: "8 MB; 3.5 MB",
        aim: "5 MB; 2 MB",
        run: size,
    },
];

/// Time limit of a connect with an upload.
const PATIENCE: Duration = Duration::from_secs(60);

const SSH: &str = "ssh HOST true";

/// The local port of the forward.
const PORT: u16 = 9104;

fn connects(options: &Options, wire: Wire) -> Result<Sheet> {
    let place = Place::up(wire)?;
    let mut sheet = Sheet::default();
    let (first, second) = ("first", "second, agent running");
    let trip = wire.rtt.as_secs_f64() * 1e3;
    // The first connect uploads the agent, and is not measured.
    connect(&place)?.1.disconnect()?;
    for round in 0..options.rounds {
        forget(&place)?;
        let start = Instant::now();
        let mut ssh = place.lab.laptop().command("ssh");
        ssh.args(["-o", "BatchMode=yes", "gpu", "true"])
            .stdin(Stdio::null());
        let status = ssh.status().context("cannot start ssh")?;
        ensure!(status.success(), "ssh ended with {status}");
        let by_ssh = start.elapsed().as_secs_f64() * 1e3;
        let (by_us, client) = connect(&place)?;
        client.disconnect()?;
        let (again, client) = connect(&place)?;
        client.disconnect()?;
        for (what, peer, value) in [
            (first, SSH, by_ssh),
            (first, PRODUCT, by_us),
            (second, PRODUCT, again),
        ] {
            sheet.add(what, peer, "ms", value);
            options.tell(round, what, peer, value, "ms");
        }
    }
    sheet.judge_ratio(first, PRODUCT, SSH, at_most(1.3, 1.0));
    let again = sheet.values(second, PRODUCT);
    let limits = at_most(3.0 * trip + 50.0, 2.0 * trip + 20.0);
    sheet.judge(second, "ms", again, limits);
    place.down()?;
    Ok(sheet)
}

/// The time until the ports are usable, in milliseconds.
fn connect(place: &Place) -> Result<(f64, Client)> {
    let laptop = place.lab.laptop();
    laptop.install(&product::client_binary(), "jq-client")?;
    let mut command = laptop.command("jq-client");
    command.arg("connect").args(product_words(place, PORT));
    let start = Instant::now();
    let mut client = Client::spawn(&mut command)?;
    let event = client.wait_for(&["ready", "failure"], PATIENCE)?;
    let took = start.elapsed().as_secs_f64() * 1e3;
    ensure!(event["event"] == "ready", "jq-client failed: {event}");
    Ok((took, client))
}

fn size(_: &Options) -> Result<Sheet> {
    const MB: f64 = 1e6;
    let mut sheet = Sheet::default();
    let agent = std::fs::metadata(product::agent_binary())?.len() as f64 / MB;
    let place = Place::up(wire::LARGE_QUEUE)?;
    let sent = || {
        let way = place.lab.link().counters_from(HostName::Laptop);
        way.map(|way| way.bytes as f64 / MB).unwrap_or_default()
    };
    let mut costs = [0.0; 2];
    for cost in &mut costs {
        forget(&place)?;
        let before = sent();
        let (took, client) = connect(&place)?;
        *cost = sent() - before;
        client.disconnect()?;
        if sheet.series.is_empty() {
            sheet.add("first connect, with upload", PRODUCT, "ms", took);
        }
    }
    let [with, without] = costs;
    sheet.add("size, stripped", PRODUCT, "MB", agent);
    sheet.add("upload, including ssh and TCP", PRODUCT, "MB", with - without);
    sheet.judge("size, stripped", "MB", vec![agent], at_most(8.0, 5.0));
    let upload = vec![with - without];
    sheet.judge("upload, including ssh and TCP", "MB", upload, at_most(3.5, 2.0));
    place.down()?;
    Ok(sheet)
}
