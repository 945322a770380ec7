//! Networks that block UDP, and a path that fails.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::{Bench, Limit, Outcome, Scenario, clock::each_second, process::Process, site::Plan, trio::Trio};
use crate::lab::HostName;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "F7-start",
        name: "UDP blocked when connecting",
        bar: "connected over ssh, at most 2 s later than with --path ssh",
        quick: true,
        engine: false,
        run: blocked_at_start,
    },
    Scenario {
        id: "F7-middle",
        name: "UDP blocked while streams are open, then unblocked",
        bar: "usable over ssh within 5 s, back on UDP within 60 s",
        quick: true,
        engine: false,
        run: blocked_in_the_middle,
    },
    Scenario {
        id: "F7-gateway",
        name: "UDP to the gateway blocked while streams are open, then unblocked",
        bar: "usable over ssh within 5 s, back on UDP within 60 s",
        quick: true,
        engine: false,
        run: blocked_before_gateway,
    },
    Scenario {
        id: "F14",
        name: "the gateway's relay is killed",
        bar: "usable over another path within 5 s",
        quick: true,
        engine: false,
        run: relay_killed,
    },
    Scenario {
        id: "F14-sshd",
        name: "the gateway's sshd is stopped for 2 min, then its relay is killed",
        bar: "no stream stalls without the sshd; usable within 5 s after the relay was killed",
        quick: false,
        engine: false,
        run: sshd_stopped,
    },
];

fn blocked_at_start(_: &Bench) -> Result<Outcome> {
    let plan = Plan::rtt(Duration::from_millis(40));
    let over_ssh = plan.clone().with("--path").with("ssh");
    let lab = plan.lab()?;
    // This connect uploads the agent, so that the two measured ones do not.
    plan.connect(&lab)?.0.disconnect()?;
    let start = Instant::now();
    let (client, _) = over_ssh.connect(&lab)?;
    let forced = start.elapsed();
    client.disconnect()?;
    lab.link().set(|link| link.block_udp = true);
    let start = Instant::now();
    let site = plan.up_in(lab)?;
    let found_out = start.elapsed();
    ensure!(site.ready.path == "ssh", "the path is {}", site.ready.path);
    let trio = Trio::start(&site)?;
    trio.end()?;
    site.finish()?;
    Ok(Outcome::default()
        .with("with --path ssh", forced.as_secs_f64(), "s", Limit::Told)
        .seconds("later", found_out.saturating_sub(forced), 2.0))
}

fn blocked_in_the_middle(_: &Bench) -> Result<Outcome> {
    blocked(&Plan::default())
}

fn blocked_before_gateway(_: &Bench) -> Result<Outcome> {
    blocked(&Plan::gateway())
}

fn blocked(plan: &Plan) -> Result<Outcome> {
    let mut site = plan.up()?;
    let trio = Trio::start(&site)?;
    let mark = trio.mark();
    site.lab.link().set(|link| link.block_udp = true);
    let switched = trio.moved_since(&mark, 1_000_000)?;
    site.client
        .wait_for_path(Duration::from_secs(10), |path| path == "ssh")?;
    let start = Instant::now();
    site.lab.link().set(|link| link.block_udp = false);
    site.client
        .wait_for_path(Duration::from_secs(70), |path| path != "ssh")?;
    let back = start.elapsed();
    let mark = trio.mark();
    trio.moved_since(&mark, 1_000_000)?;
    trio.end()?;
    site.finish()?;
    Ok(Outcome::default()
        .seconds("usable over ssh", switched, 5.0)
        .seconds("back on UDP", back, 60.0))
}

fn relay_killed(_: &Bench) -> Result<Outcome> {
    let mut site = Plan::gateway().up()?;
    let trio = Trio::start(&site)?;
    let mark = trio.mark();
    Process::agent(site.lab.gateway(), "relay")?.signal(Signal::KILL)?;
    let usable = trio.moved_since(&mark, 1_000_000)?;
    let path = site.client.path().unwrap_or_default();
    trio.end()?;
    site.finish()?;
    Ok(Outcome::default()
        .seconds("usable", usable, 5.0)
        .noting(format!("path now: {path}")))
}

fn sshd_stopped(_: &Bench) -> Result<Outcome> {
    let mut site = Plan::gateway().up()?;
    let trio = Trio::start(&site)?;
    site.lab.sshd(HostName::Gateway).stop_all()?;
    let mut standstill = 0;
    each_second(120, |_| {
        let mark = trio.mark();
        let moved = trio.moved_since(&mark, 1)?;
        standstill += u32::from(moved > Duration::from_secs(1));
        Ok(())
    })?;
    site.lab.sshd(HostName::Gateway).launch()?;
    let mark = trio.mark();
    Process::agent(site.lab.gateway(), "relay")?.signal(Signal::KILL)?;
    let usable = trio.moved_since(&mark, 1_000_000)?;
    trio.end()?;
    site.finish()?;
    Ok(Outcome::default()
        .with(
            "seconds without progress",
            standstill.into(),
            "",
            Limit::AtMost(0.0),
        )
        .seconds("usable", usable, 5.0))
}
