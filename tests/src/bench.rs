//! Benchmarks of the product and of its alternatives. Each gets the same load in the same lab, one after the other.
//! `jq-bench` runs them.
//!
//! # Layout
//! - `figures`: values, their spread, and the bars that they must meet. `wire`: links. Values only.
//! - `results`, `table`, `plot`: the files in results/.
//! - `place`: a lab with the service (`target`) on its GPU host. `peers`: connections to the service, through the product
//!   or through another tool. `flow`: streams over them. `process`: their CPU and memory use.
//! - the other files: the benchmarks, one file for each family.

mod bulk;
mod clock;
mod connecting;
mod cost;
mod dumbpipe;
mod echo;
mod fairness;
mod figures;
mod flow;
mod idle_streams;
mod jupyter;
mod opening;
mod peers;
mod place;
mod plot;
mod process;
mod results;
mod table;
mod target;
mod text;
mod wire;

use std::time::Duration;

use anyhow::Result;

pub use self::clock::last as pass;
pub use self::figures::{Bound, Grade, Series, Sheet, Spread, Verdict};
pub use self::idle_streams::hold_idle_streams;
pub use self::results::{Results, Row};

/// A benchmark: something that users do, measured.
#[derive(Clone, Copy)]
pub struct Benchmark {
    /// The name on the command line.
    pub id: &'static str,
    /// The description in the results.
    pub name: &'static str,
    /// The limit that must be met.
    pub bar: &'static str,
    /// The desired figure.
    pub aim: &'static str,
    /// Runs it.
    pub run: fn(&Options) -> Result<Sheet>,
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of rounds.
    pub rounds: usize,
    /// How long streams run before the measurement starts.
    pub warm_up: Duration,
    /// Length of a measurement.
    pub length: Duration,
    /// Whether peers are also measured with BBR for TCP.
    pub bbr: bool,
    /// The peers to measure, by their names in the results. Empty: all.
    pub peers: Vec<String>,
    /// Called with each figure as soon as it is known.
    pub say: fn(&str),
}

impl Options {
    fn tell(&self, round: usize, what: &str, peer: &str, value: f64, unit: &str) {
        let value = figures::short(value);
        (self.say)(&format!("    round {}: {what}: {peer} {value} {unit}", round + 1));
    }
}

/// All benchmarks, in the order of the results.
pub fn benchmarks() -> Vec<Benchmark> {
    let families = [
        bulk::BENCHMARKS,
        text::BENCHMARKS,
        echo::BENCHMARKS,
        fairness::BENCHMARKS,
        opening::BENCHMARKS,
        connecting::BENCHMARKS,
        cost::BENCHMARKS,
        jupyter::BENCHMARKS,
    ];
    families.into_iter().flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn every_benchmark_has_its_own_id() {
        let benchmarks = super::benchmarks();
        let ids: HashSet<_> = benchmarks.iter().map(|benchmark| benchmark.id).collect();
        assert_eq!(ids.len(), benchmarks.len());
    }
}
