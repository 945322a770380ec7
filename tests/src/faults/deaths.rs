//! Killed processes and rebooted hosts.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{
    Bench, Limit, Outcome, Scenario,
    process::Process,
    site::{PORT, Plan, Site},
    trio::Trio,
};
use crate::{
    eventually, eventually_some,
    lab::{HostName, netns},
    oracle::{End, Stream},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "F11",
        name: "the agent is killed during a large transfer",
        bar: "the container keeps running, every old stream is reset, new ones work within 3 s",
        quick: true,
        engine: true,
        run: agent_killed,
    },
    Scenario {
        id: "F13",
        name: "the client is killed and started again",
        bar: "usable within 5 s, nothing of the old session is on the host after 60 s",
        quick: true,
        engine: false,
        run: client_killed,
    },
    Scenario {
        id: "F15",
        name: "the GPU host is rebooted",
        bar: "the loss is reported, old streams are reset, new ones work within 10 s",
        quick: true,
        engine: false,
        run: rebooted,
    },
];

/// Number of idle streams besides the three that carry data.
const IDLE: usize = 20;

const SOON: Duration = Duration::from_secs(20);

fn idle_streams(site: &Site) -> Result<Vec<Stream>> {
    let streams: Vec<_> = (0..IDLE).map(|_| site.caller.idle()).collect();
    streams.iter().for_each(Stream::ask);
    let all = || streams.iter().all(|stream| stream.near().answers() == 1);
    eventually("all idle streams to be open", SOON, all)?;
    Ok(streams)
}

fn all_reset(streams: &[Stream]) -> Result<()> {
    for stream in streams {
        let end = || stream.near().end();
        eventually("an idle stream to be reset", SOON, || end() != End::Open)?;
        ensure!(end() == End::Reset, "an idle stream ended with {:?}", end());
    }
    Ok(())
}

/// Waits until a new stream is answered. Returns the time since `start`.
fn works_again(site: &Site, start: Instant) -> Result<Duration> {
    eventually_some("a new stream to be answered", Duration::from_secs(60), || {
        site.caller.try_once(Duration::from_secs(2)).map(Some)
    })?;
    Ok(start.elapsed())
}

fn agent_killed(_: &Bench) -> Result<Outcome> {
    let site = Plan::container().up()?;
    let container = site.ready.container.clone().context("no container")?;
    let before = site.lab.docker(["ps", "-q"])?.lines().count();
    let (trio, idle) = (Trio::start(&site)?, idle_streams(&site)?);
    let start = Instant::now();
    site.agent()?.signal(Signal::KILL)?;
    let usable = works_again(&site, start)?;
    trio.all_reset(SOON)?;
    trio.all_reset_at_the_host(SOON)?;
    all_reset(&idle)?;
    let running = site
        .lab
        .docker(["inspect", "-f", "{{.State.Running}}", &container.id])?;
    ensure!(running.trim() == "true", "the container was stopped");
    let after = site.lab.docker(["ps", "-q"])?.lines().count();
    ensure!(after <= before, "{before} containers before, {after} after");
    site.finish()?;
    Ok(Outcome::default().seconds("new streams work", usable, 3.0).with(
        "reset",
        (IDLE + 3) as f64,
        "",
        Limit::Told,
    ))
}

fn client_killed(_: &Bench) -> Result<Outcome> {
    let plan = Plan::default();
    let mut site = plan.up()?;
    let (trio, idle) = (Trio::start(&site)?, idle_streams(&site)?);
    site.client.signal(Signal::KILL)?;
    site.client.wait()?;
    trio.all_reset(SOON)?;
    all_reset(&idle)?;
    let start = Instant::now();
    site.reconnect(&plan)?;
    let usable = works_again(&site, start)?;
    let old: Vec<_> = idle.iter().chain([&trio.down, &trio.up, &trio.echo]).collect();
    let sockets = || {
        site.lab
            .gpu()
            .run_as_root(&format!("ss -Htn state connected sport = :{PORT}"))
    };
    let gone = || sockets().is_ok_and(|left| left.is_empty());
    eventually(
        "the old streams to be closed on the host",
        Duration::from_secs(60),
        gone,
    )?;
    let orphaned = start.elapsed();
    for stream in &old {
        let end = || stream.far().end();
        eventually("a reset on the host", SOON, || end() == End::Reset)
            .with_context(|| format!("an old stream ended with {:?} on the host", end()))?;
    }
    site.finish()?;
    Ok(Outcome::default()
        .seconds("usable", usable, 5.0)
        .seconds("no orphans after", orphaned, 60.0))
}

fn rebooted(_: &Bench) -> Result<Outcome> {
    let mut site = Plan::default().up()?;
    let (trio, idle) = (Trio::start(&site)?, idle_streams(&site)?);
    let told_before = site.client.events().len();
    site.lab.link().set_up(false);
    site.lab.sshd(HostName::Gpu).stop_all()?;
    let gpu = site.lab.gpu();
    for pid in netns::processes_of(gpu.user.uid) {
        // Killing one process may already have ended another.
        let _ = Process(pid).signal(Signal::KILL);
    }
    // A reboot empties folders in memory.
    gpu.run("rm -rf ~/.cache/jq/run")?;
    super::clock::last(Duration::from_secs(3));
    site.lab.link().set_up(true);
    let start = Instant::now();
    site.lab.sshd(HostName::Gpu).launch()?;
    let usable = works_again(&site, start)?;
    trio.all_reset(SOON)?;
    trio.all_reset_at_the_host(SOON)?;
    all_reset(&idle)?;
    let said = eventually_some("the client to report that the session is lost", SOON, || {
        let events = &site.client.events()[told_before..];
        let about = |event: &&serde_json::Value| event["lost_something"] == true;
        Ok(events.iter().find(about).map(ToString::to_string))
    })?;
    site.finish()?;
    Ok(Outcome::default()
        .seconds("new streams work", usable, 10.0)
        .noting(format!("reported: {said}")))
}
