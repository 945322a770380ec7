//! The fault table: each row is a scenario with real processes in a lab, a fault, and a limit.
//!
//! For every scenario holds, whatever its own bar: no byte lost, doubled, moved or changed, no end of data on truncated
//! data, no reset that the fault does not explain, no panic, and no descriptor, socket or process left
//! (`site::Site::finish`). `jq-faults` runs them by hand, `tests/it/faults.rs` the quick ones as tests.
//!
//! # Layout
//! - `outcome`: figures and bars. `clock`: time that passes, and when something works again. `process`: a process as
//!   the kernel sees it. None of them knows a lab.
//! - `site`: a lab with a client connected and oracles on both ends. `trio`: three kinds of streams, used while a fault
//!   happens.
//! - the rest: scenarios, a family a file.

mod clock;
mod containers;
mod deaths;
mod ends;
mod frozen;
mod install;
mod limits;
mod many;
mod network;
mod outages;
mod outcome;
mod paths;
mod pipe;
mod process;
mod roaming;
mod site;
mod storm;
mod swapper;
mod trio;
mod upgrade;

use anyhow::{Context as _, Result, ensure};

pub use self::outcome::{Limit, Measure, Outcome};
use crate::require;

/// A row of the fault table.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// `F` and a number, with a variant behind a dash where there are several.
    pub id: &'static str,
    /// The fault.
    pub name: &'static str,
    /// The limits of this row, besides what holds for every row.
    pub bar: &'static str,
    /// Whether it takes less than 40 s; the others run only when asked for long ones.
    pub quick: bool,
    /// Whether it needs an engine on the GPU host.
    pub engine: bool,
    /// Runs it.
    pub run: fn(&Bench) -> Result<Outcome>,
}

/// How long to test.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// Whether it may take long.
    pub long: bool,
    /// How many times scenarios are run that are settled by dice, each with another seed.
    pub seeds: u64,
    /// The first of those seeds.
    pub first_seed: u64,
}

impl Default for Bench {
    fn default() -> Self {
        Self {
            long: false,
            seeds: 1,
            first_seed: random_seed(),
        }
    }
}

/// A seed for a run that is told none, so that each run meets other faults. Small enough to be typed again.
#[must_use]
pub fn random_seed() -> u64 {
    getrandom::u32().map_or(1, |random| u64::from(random % 1_000_000))
}

/// All of them, in the order of their numbers.
pub fn all() -> Vec<Scenario> {
    let families = [
        network::SCENARIOS,
        pipe::SCENARIOS,
        outages::SCENARIOS,
        roaming::SCENARIOS,
        paths::SCENARIOS,
        frozen::SCENARIOS,
        deaths::SCENARIOS,
        containers::SCENARIOS,
        upgrade::SCENARIOS,
        install::SCENARIOS,
        limits::SCENARIOS,
        many::SCENARIOS,
        ends::SCENARIOS,
        storm::SCENARIOS,
        swapper::SCENARIOS,
    ];
    let mut all: Vec<_> = families.into_iter().flatten().copied().collect();
    all.sort_by_key(|scenario| scenario.number());
    all
}

/// Runs a quick scenario as a test: an error unless its bar is met. Nothing happens where a lab cannot be made.
///
/// # Errors
/// What went wrong, or which bar was missed.
///
/// # Panics
/// Where a lab cannot be made and `CI` is `true`.
pub fn hold(id: &str) -> Result<()> {
    let found = all().into_iter().find(|scenario| scenario.id == id);
    let scenario = found.with_context(|| format!("no scenario {id}"))?;
    if !(if scenario.engine {
        require::docker()
    } else {
        require::lab()
    }) {
        return Ok(());
    }
    let outcome = (scenario.run)(&Bench::default())?;
    ensure!(
        outcome.passed(),
        "{id}, {}: {outcome}; the bar: {}",
        scenario.name,
        scenario.bar
    );
    Ok(())
}

impl Scenario {
    fn number(&self) -> u32 {
        let digits = self
            .id
            .trim_start_matches('F')
            .split('-')
            .next()
            .unwrap_or_default();
        digits.parse().unwrap_or(u32::MAX)
    }

    /// Whether `wanted` is its id, or the number that it shares with its variants.
    pub fn is(&self, wanted: &str) -> bool {
        self.id == wanted
            || self
                .id
                .strip_prefix(wanted)
                .is_some_and(|rest| rest.starts_with('-'))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn every_number_of_the_table_has_a_scenario_and_no_id_is_used_twice() {
        let all = super::all();
        let ids: HashSet<_> = all.iter().map(|scenario| scenario.id).collect();
        assert_eq!(ids.len(), all.len());
        for number in (1..=16).chain(20..=30) {
            assert!(
                all.iter().any(|scenario| scenario.number() == number),
                "F{number}"
            );
        }
    }
}
