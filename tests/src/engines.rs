//! The matrix of engines: each row is an engine of one generation in a lab, and all rows have the same checks.
//!
//! `jq-engines` runs all rows, `tests/it/engines.rs` runs the cheap ones as tests.
//!
//! # Layout
//! - `row`: the rows, and what is right for each. Values only.
//! - `site`: a lab with the engine of a row, and the clients that checks use.
//! - `checks`: the checks. Each is independent of the others.

mod checks;
mod row;
mod site;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

pub use self::row::{Devices, Owner, Row};
use self::site::Site;

/// The result of one check on one row.
#[derive(Debug)]
pub struct Report {
    /// The row's name.
    pub row: &'static str,
    /// The check's name.
    pub check: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What was seen if it failed.
    pub fault: Option<String>,
}

/// Starts the lab of a row and runs all checks, also after one has failed. Calls `tell` after each.
///
/// # Errors
/// If the lab cannot be started or removed, or the product panicked.
pub fn run(row: &Row, mut tell: impl FnMut(&Report)) -> Result<()> {
    let site = Site::up(row)?;
    for check in checks::ALL {
        let start = Instant::now();
        let result = (check.run)(&site);
        tell(&Report {
            row: row.name(),
            check: check.name,
            took: start.elapsed(),
            fault: result.err().map(|error| format!("{error:#}")),
        });
    }
    site.down()
}

/// Runs all checks of a row as a test.
///
/// # Errors
/// The checks that failed, with the row and what was seen.
pub fn hold(row: &Row) -> Result<()> {
    let mut faults = Vec::new();
    run(row, |report| {
        if let Some(fault) = &report.fault {
            faults.push(format!("{}, {}: {fault}", report.row, report.check));
        }
    })?;
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}
