//! A laptop that changes its address, sleeps, or whose UDP flow is dropped silently.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{
    Bench, Outcome, Scenario,
    clock::{largest, last},
    site::{Plan, Site},
    trio::Trio,
};

const fn scenario(
    id: &'static str,
    name: &'static str,
    bar: &'static str,
    run: fn(&Bench) -> Result<Outcome>,
) -> Scenario {
    Scenario {
        id,
        name,
        bar,
        quick: true,
        engine: false,
        run,
    }
}

const SOON: &str = "usable within 2 s";

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("F4-v4", "the laptop's address changes", SOON, other_address),
    scenario(
        "F4-v6",
        "the laptop's address changes from IPv4 to IPv6 and back",
        SOON,
        other_kind,
    ),
    scenario(
        "F4-gateway",
        "the laptop's address changes, with a gateway on the path",
        SOON,
        other_address_gateway,
    ),
    scenario(
        "F5-rebind",
        "a NAT assigns another port to the flow",
        SOON,
        rebind,
    ),
    scenario("F5-expire", "a NAT drops its mapping of the flow", SOON, expire),
    scenario(
        "F9",
        "suspended 20 s: processes stopped, NAT mappings dropped, another address after waking",
        SOON,
        sleep,
    ),
    scenario(
        "F9-silence",
        "UDP packets are dropped silently",
        "usable within 5 s",
        silence,
    ),
    Scenario {
        quick: false,
        ..scenario("F9-long", "suspended 10 min", SOON, long_sleep)
    },
];

fn moved(address: IpAddr, step: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            [a, b, c, 100 + step].into()
        }
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[15] = 100 + step;
            octets.into()
        }
    }
}

fn other_address(_: &Bench) -> Result<Outcome> {
    change_addresses(&Plan::default())
}

fn other_address_gateway(_: &Bench) -> Result<Outcome> {
    change_addresses(&Plan::gateway())
}

fn change_addresses(plan: &Plan) -> Result<Outcome> {
    let site = plan.up()?;
    let trio = Trio::start(&site)?;
    let (mut usable, mut now) = (Vec::new(), IpAddr::from(site.lab.laptop().address));
    for step in 1..=4 {
        let next = moved(now, step);
        let mark = trio.mark();
        site.lab.laptop().change_address(now, next)?;
        usable.push(trio.moved_since(&mark, 1_000_000)?);
        now = next;
    }
    ended(
        site,
        &trio,
        Outcome::default().seconds("slowest of 4", largest(&usable), 2.0),
    )
}

fn other_kind(_: &Bench) -> Result<Outcome> {
    let site = Plan::default().up()?;
    let trio = Trio::start(&site)?;
    let laptop = site.lab.laptop();
    let (v4, v6) = (IpAddr::from(laptop.address), IpAddr::from(laptop.address6));
    let mark = trio.mark();
    let device = laptop.lose_address(v4)?;
    let to_v6 = trio.moved_since(&mark, 1_000_000)?;
    let mark = trio.mark();
    laptop.lose_address(v6)?;
    laptop.gain_address(v4, &device)?;
    let to_v4 = trio.moved_since(&mark, 1_000_000)?;
    let outcome = Outcome::default()
        .seconds("to v6", to_v6, 2.0)
        .seconds("to v4", to_v4, 2.0);
    ended(site, &trio, outcome)
}

fn rebind(_: &Bench) -> Result<Outcome> {
    let mut site = Plan::nat().with("--path").with("direct").up()?;
    let trio = Trio::start(&site)?;
    let mut usable = Vec::new();
    for _ in 0..4 {
        let mark = trio.mark();
        site.nat.as_mut().context("this lab has no NAT")?.rebind()?;
        usable.push(trio.moved_since(&mark, 1_000_000)?);
    }
    ended(
        site,
        &trio,
        Outcome::default().seconds("slowest of 4", largest(&usable), 2.0),
    )
}

fn expire(_: &Bench) -> Result<Outcome> {
    let site = Plan::nat().with("--path").with("direct").up()?;
    let trio = Trio::start(&site)?;
    let mut usable = Vec::new();
    for _ in 0..4 {
        let mark = trio.mark();
        site.nat.as_ref().context("this lab has no NAT")?.forget()?;
        usable.push(trio.moved_since(&mark, 1_000_000)?);
    }
    ended(
        site,
        &trio,
        Outcome::default().seconds("slowest of 4", largest(&usable), 2.0),
    )
}

fn sleep(_: &Bench) -> Result<Outcome> {
    sleep_for(Duration::from_secs(20))
}

fn long_sleep(_: &Bench) -> Result<Outcome> {
    sleep_for(Duration::from_secs(600))
}

fn sleep_for(length: Duration) -> Result<Outcome> {
    let site = Plan::nat().up()?;
    let trio = Trio::start(&site)?;
    let laptop = site.lab.laptop();
    site.client.signal(Signal::STOP)?;
    site.lab.link().set_up(false);
    last(length);
    let address = IpAddr::from(laptop.address);
    laptop.change_address(address, moved(address, 7))?;
    site.nat.as_ref().context("this lab has no NAT")?.forget()?;
    site.lab.link().set_up(true);
    let mark = trio.mark();
    site.client.signal(Signal::CONT)?;
    let usable = trio.moved_since(&mark, 1_000_000)?;
    ended(site, &trio, Outcome::default().seconds("usable", usable, 2.0))
}

fn silence(_: &Bench) -> Result<Outcome> {
    let site = Plan::default().up()?;
    let trio = Trio::start(&site)?;
    let laptop = site.lab.laptop();
    let mut usable = Vec::new();
    for _ in 0..2 {
        laptop.silence_udp_of(site.client.pid())?;
        // Data that was in local buffers before the packets were dropped does not count.
        last(Duration::from_millis(50));
        let mark = trio.mark();
        usable.push(trio.moved_since(&mark, 1_000_000)?);
        laptop.restore_udp()?;
        last(Duration::from_secs(1));
    }
    ended(
        site,
        &trio,
        Outcome::default().seconds("slowest of 2", largest(&usable), 5.0),
    )
}

fn ended(mut site: Site, trio: &Trio, outcome: Outcome) -> Result<Outcome> {
    let path = site.client.path().unwrap_or_default();
    trio.end()?;
    site.finish()?;
    Ok(outcome.noting(format!("path now: {path}")))
}
