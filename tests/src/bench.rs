//! Performance of the product and of its alternatives: the same workload on each, in the same lab, in turns.
//! `jq-bench` runs it by hand.
//!
//! # Layout
//! - `figures`: values, their spread and the bars they are held against. `wire`: links. Values only.
//! - `results`, `table`, `plot`: what is written down of them.
//! - `place`: a lab with the service (`target`) on its GPU host. `peers`: ways to it. `flow`: streams over them.
//!   `process`: what they cost.
//! - the rest: works, a family a file.

mod bulk;
mod clock;
mod connecting;
mod cost;
mod dumbpipe;
mod echo;
mod fairness;
mod figures;
mod flow;
mod idlers;
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
pub use self::idlers::have_idle_streams;
pub use self::results::{Results, Row};

/// Something that users do, measured.
#[derive(Clone, Copy)]
pub struct Work {
    /// What it is called on the command line.
    pub id: &'static str,
    /// In words.
    pub name: &'static str,
    /// What has to be reached.
    pub bar: &'static str,
    /// What is wished.
    pub aim: &'static str,
    /// Runs it.
    pub run: fn(&Bench) -> Result<Sheet>,
}

/// How thoroughly to measure.
#[derive(Clone, Debug)]
pub struct Bench {
    /// How often everything is measured.
    pub rounds: usize,
    /// How long streams run before they are measured.
    pub warm_up: Duration,
    /// How long they are measured.
    pub length: Duration,
    /// Whether peers are also measured with BBR for TCP.
    pub bbr: bool,
    /// Only these, by the names that results have; all when none is named.
    pub peers: Vec<String>,
    /// Hears of each figure as soon as there is one.
    pub say: fn(&str),
}

impl Bench {
    fn tell(&self, round: usize, what: &str, peer: &str, value: f64, unit: &str) {
        let value = figures::short(value);
        (self.say)(&format!("    round {}: {what}: {peer} {value} {unit}", round + 1));
    }
}

/// All of them, in the order in which they are best read.
pub fn works() -> Vec<Work> {
    let families = [
        bulk::WORKS,
        text::WORKS,
        echo::WORKS,
        fairness::WORKS,
        opening::WORKS,
        connecting::WORKS,
        cost::WORKS,
        jupyter::WORKS,
    ];
    families.into_iter().flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn no_work_is_there_twice() {
        let works = super::works();
        let ids: HashSet<_> = works.iter().map(|work| work.id).collect();
        assert_eq!(ids.len(), works.len());
    }
}
