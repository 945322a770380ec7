//! Streams into a container, and the helper in its network namespace that connects there.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{
    Bench, Outcome, Scenario,
    clock::{largest, last},
    site::{Plan, Site},
    trio::Trio,
};
use crate::eventually_some;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "F3-container",
        name: "link down 5 s with streams into a container",
        bar: "usable again within 2 s, and new connections reach the container",
        quick: true,
        engine: true,
        run: outages,
    },
    Scenario {
        id: "F11-helper",
        name: "the helper in the container's network namespace is killed during a transfer",
        bar: "open streams continue, new ones reach the container within 3 s",
        quick: true,
        engine: true,
        run: helper_killed,
    },
    Scenario {
        id: "F16",
        name: "dockerd is restarted while containers keep running (--live-restore)",
        bar: "no stream is interrupted, and new connections reach the container, also while dockerd is away",
        quick: true,
        engine: true,
        run: engine_restarted,
    },
];

/// Time limit of a new connection.
const PATIENCE: Duration = Duration::from_secs(30);

fn container(site: &Site) -> Result<&str> {
    let container = site.ready.container.as_ref().context("no container")?;
    Ok(&container.id)
}

fn outages(_: &Bench) -> Result<Outcome> {
    let site = Plan::container().up()?;
    let trio = Trio::start(&site)?;
    let mut usable = Vec::new();
    for _ in 0..2 {
        site.lab.link().set_up(false);
        last(Duration::from_secs(5));
        let mark = trio.mark();
        site.lab.link().set_up(true);
        usable.push(trio.usable_since(&mark)?);
        site.caller.try_once(Duration::from_secs(5))?;
    }
    trio.end()?;
    site.finish()?;
    Ok(Outcome::default().seconds("slowest of 2", largest(&usable), 2.0))
}

/// Waits until a new stream is answered. Returns the time since `start`.
fn reached(site: &Site, start: Instant) -> Result<Duration> {
    eventually_some("a new stream to be answered", PATIENCE, || {
        site.caller.try_once(Duration::from_secs(5)).map(Some)
    })?;
    Ok(start.elapsed())
}

fn helper_killed(_: &Bench) -> Result<Outcome> {
    let site = Plan::container().up()?;
    let trio = Trio::start(&site)?;
    let helper = site
        .lab
        .docker(["ps", "-q", "--filter", "label=dev.jq.role=inside"])?;
    ensure!(
        helper.lines().count() == 1,
        "there must be exactly one helper: {helper:?}"
    );
    site.lab.docker(["kill", helper.trim()])?;
    let start = Instant::now();
    let reached = reached(&site, start)?;
    let mark = trio.mark();
    trio.moved_since(&mark, 1_000_000)?;
    trio.end()?;
    site.finish()?;
    Ok(Outcome::default().seconds("new streams work", reached, 3.0))
}

fn engine_restarted(_: &Bench) -> Result<Outcome> {
    let plan = Plan::container();
    let mut lab = plan.lab()?;
    lab.engine().set_options(["--live-restore"]);
    lab.engine().stop()?;
    lab.engine().launch()?;
    let mut site = plan.up_in(lab)?;
    let trio = Trio::start(&site)?;
    for stream in [&trio.down, &trio.up, &trio.echo] {
        stream.near().forget_silence();
    }
    site.lab.engine().stop()?;
    reached(&site, Instant::now())?;
    site.lab.engine().launch()?;
    let pause = trio
        .down
        .near()
        .longest_silence()
        .max(trio.echo.near().longest_silence());
    let running = site
        .lab
        .docker(["inspect", "-f", "{{.State.Running}}", container(&site)?])?;
    ensure!(running.trim() == "true", "the container was stopped");
    reached(&site, Instant::now())?;
    trio.end()?;
    site.finish()?;
    Ok(Outcome::default().seconds("longest silence", pause, 2.0))
}
