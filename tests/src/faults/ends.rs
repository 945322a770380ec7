//! Half-closes and resets during an outage.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Bench, Limit, Outcome, Scenario, clock::last, site::Plan};
use crate::{
    eventually,
    oracle::{End, Job},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "F27",
        name: "half-closed streams across outages",
        bar: "every reply is complete, no CLOSE_WAIT left",
        quick: true,
        engine: false,
        run: half_closed,
    },
    Scenario {
        id: "F28",
        name: "resets from either side while the link is down",
        bar: "each arrives as a reset",
        quick: true,
        engine: false,
        run: resets,
    },
];

const SOON: Duration = Duration::from_secs(20);

fn half_closed(_: &Bench) -> Result<Outcome> {
    const ROUNDS: u64 = 4;
    let site = Plan::default().up()?;
    for round in 0..ROUNDS {
        let streams: Vec<_> = (0..10)
            .map(|n| {
                let (up, down) = (100_000 * n, 200_000 * (9 - n));
                site.caller.open(Job::HalfClose { up, down })
            })
            .collect();
        // The outage of each round starts at another time: while ends or replies are in flight.
        last(Duration::from_millis(30 + 120 * round));
        site.lab.link().set_up(false);
        last(Duration::from_secs(3));
        site.lab.link().set_up(true);
        streams.iter().try_for_each(|stream| stream.complete(SOON))?;
        site.check_nothing_leaked()?;
    }
    site.finish()?;
    Ok(Outcome::default().with("replies complete", (ROUNDS * 10) as f64, "", Limit::Told))
}

fn resets(_: &Bench) -> Result<Outcome> {
    const EACH: usize = 10;
    let site = Plan::default().up()?;
    for from_near in [true, false] {
        let open = |n: usize| match n % 2 {
            0 => site.caller.echo(Duration::from_millis(20)),
            _ => site.caller.open(Job::Bulk {
                up: u64::MAX,
                down: u64::MAX,
            }),
        };
        let streams: Vec<_> = (0..EACH).map(open).collect();
        let moving = || {
            streams
                .iter()
                .all(|stream| stream.near().received() > 500 && stream.far().received() > 500)
        };
        eventually("bytes on all streams", SOON, moving)?;
        site.lab.link().set_up(false);
        last(Duration::from_secs(1));
        for stream in &streams {
            let side = if from_near { stream.near() } else { stream.far() };
            side.order(|orders| orders.reset = true);
        }
        last(Duration::from_secs(2));
        site.lab.link().set_up(true);
        for stream in &streams {
            let side = if from_near { stream.far() } else { stream.near() };
            eventually("the reset to arrive", SOON, || side.end() != End::Open)?;
            ensure!(side.end() == End::Reset, "a reset arrived as {:?}", side.end());
        }
    }
    site.caller.try_once(SOON)?;
    site.finish()?;
    Ok(Outcome::default().with("resets", (2 * EACH) as f64, "", Limit::Told))
}
