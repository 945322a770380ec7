//! Link outages.

use std::time::Duration;

use anyhow::Result;

use super::{
    Bench, Outcome, Scenario,
    clock::{largest, last, percentile},
    site::Plan,
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
        bar: "usable again: p95 < 2 s, at most 5 s",
        quick,
        engine: false,
        run,
    }
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("F3-1s", "link down 1 s", true, |_| outages(1, 5)),
    scenario("F3-5s", "link down 5 s", true, |_| outages(5, 4)),
    scenario("F3-30s", "link down 30 s", true, |_| outages(30, 1)),
    scenario("F3-gateway", "link to the gateway down 5 s", true, |_| {
        outages_of(&Plan::gateway(), 5, 4)
    }),
    scenario("F3-120s", "link down 120 s", false, |_| outages(120, 1)),
    scenario("F3-600s", "link down 600 s", false, |_| outages(600, 1)),
    scenario("F3-many", "link down 5 s, twenty times", false, |_| {
        outages(5, 20)
    }),
];

fn outages(seconds: u64, times: usize) -> Result<Outcome> {
    outages_of(&Plan::default(), seconds, times)
}

fn outages_of(plan: &Plan, seconds: u64, times: usize) -> Result<Outcome> {
    let site = plan.up()?;
    let trio = Trio::start(&site)?;
    let mut usable = Vec::new();
    for _ in 0..times {
        site.lab.link().set_up(false);
        last(Duration::from_secs(seconds));
        trio.alive()?;
        let mark = trio.mark();
        site.lab.link().set_up(true);
        usable.push(trio.usable_since(&mark)?);
        site.caller.try_once(Duration::from_secs(5))?;
    }
    trio.end()?;
    site.finish()?;
    Ok(Outcome::default()
        .seconds("usable p95", percentile(&usable, 0.95), 2.0)
        .seconds("max", largest(&usable), 5.0))
}
