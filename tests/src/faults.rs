//! The fault table: each row is a scenario with real processes in a lab, a fault, and a limit.
//!
//! Besides its own bar, every scenario must meet these conditions: no byte is lost, duplicated, moved or changed; truncated
//! data never ends as if it were complete; every reset is explained by the fault; nothing panics; no descriptor, socket or
//! process is left (`site::Site::finish`). `jq-faults` runs all scenarios, `tests/it/faults.rs` runs the quick ones as tests.
//!
//! # Layout
//! - `outcome`: figures and bars. `clock`: waiting, and statistics of measured times. `process`: a process as the kernel
//!   sees it. These do not use a lab.
//! - `site`: a lab with a connected client and oracles at both ends. `trio`: a download, an upload and an echo, the load
//!   during a fault.
//! - the other files: the scenarios, one file for each family.

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
mod trio;
mod upgrade;

use anyhow::{Context as _, Result, ensure};

pub use self::outcome::{Limit, Measure, Outcome};
use crate::require;

/// A row of the fault table.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// `F` and a number, then a dash and a variant if there are several.
    pub id: &'static str,
    /// The fault.
    pub name: &'static str,
    /// The limits of this row, besides the conditions for every row.
    pub bar: &'static str,
    /// Whether it takes less than 40 s. The others run only with `--long`.
    pub quick: bool,
    /// Whether it needs an engine on the GPU host.
    pub engine: bool,
    /// Runs it.
    pub run: fn(&Bench) -> Result<Outcome>,
}

/// How thoroughly to test.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// Whether long runs are allowed.
    pub long: bool,
    /// The number of seeds with which a scenario with random faults is run.
    pub seeds: u64,
    /// The first of these seeds.
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

/// The default seed: random, so that each run has other faults, and small enough to type.
#[must_use]
pub fn random_seed() -> u64 {
    getrandom::u32().map_or(1, |random| u64::from(random % 1_000_000))
}

/// All scenarios, in the order of their numbers.
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
    ];
    let mut all: Vec<_> = families.into_iter().flatten().copied().collect();
    all.sort_by_key(|scenario| scenario.number());
    all
}

/// Runs a quick scenario as a test. Fails unless its bar is met. Does nothing if a lab cannot be created here.
///
/// # Errors
/// What failed, or which bar was missed.
///
/// # Panics
/// If a lab cannot be created and `CI` is `true`.
pub fn hold(id: &str) -> Result<()> {
    let found = all().into_iter().find(|scenario| scenario.id == id);
    let scenario = found.with_context(|| format!("unknown scenario {id}"))?;
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

    /// Whether `wanted` is its id, or the number that its variants have in common.
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
