//! Stopped processes (SIGSTOP).

use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{
    Bench, Outcome, Scenario,
    clock::{largest, last},
    process::Process,
    site::{Plan, Site},
    trio::Trio,
};

const fn scenario(
    id: &'static str,
    name: &'static str,
    quick: bool,
    run: fn(&Bench) -> Result<Outcome>,
) -> Scenario {
    Scenario {
        id,
        name,
        bar: "no stream ends, usable within 2 s after SIGCONT",
        quick,
        engine: false,
        run,
    }
}

const SHORT: &[u64] = &[1, 10];
const LONG: &[u64] = &[60];

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("F10-agent", "the agent is stopped for 1 and 10 s", true, |_| {
        agent(SHORT)
    }),
    scenario("F10-client", "the client is stopped for 1 and 10 s", true, |_| {
        client(SHORT)
    }),
    scenario("F10-relay", "the relay is stopped for 1 and 10 s", true, |_| {
        relay(SHORT)
    }),
    scenario("F10-agent-60s", "the agent is stopped for 60 s", false, |_| {
        agent(LONG)
    }),
    scenario("F10-client-60s", "the client is stopped for 60 s", false, |_| {
        client(LONG)
    }),
    scenario("F10-relay-60s", "the relay is stopped for 60 s", false, |_| {
        relay(LONG)
    }),
];

fn agent(lengths: &[u64]) -> Result<Outcome> {
    freeze(&Plan::default(), lengths, Site::agent)
}

fn client(lengths: &[u64]) -> Result<Outcome> {
    freeze(&Plan::default(), lengths, |site| Ok(site.client_process()))
}

fn relay(lengths: &[u64]) -> Result<Outcome> {
    freeze(&Plan::gateway(), lengths, |site| {
        Process::agent(site.lab.gateway(), "relay")
    })
}

fn freeze(plan: &Plan, lengths: &[u64], whom: impl FnOnce(&Site) -> Result<Process>) -> Result<Outcome> {
    let mut site = plan.up()?;
    let trio = Trio::start(&site)?;
    let process = whom(&site)?;
    let mut usable = Vec::new();
    for seconds in lengths {
        process.signal(Signal::STOP)?;
        last(Duration::from_secs(*seconds));
        let mark = trio.mark();
        process.signal(Signal::CONT)?;
        usable.push(trio.usable_since(&mark)?);
        site.caller
            .try_once(Duration::from_secs(5))
            .with_context(|| format!("after {seconds} s: {}; {}", site.states(), trio.movement()))?;
    }
    let states = site.states();
    trio.end()?;
    site.finish()?;
    Ok(Outcome::default()
        .seconds("usable", largest(&usable), 2.0)
        .noting(states))
}
