//! `jq-engines`: runs the matrix of engines and prints one line for each row and check.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Result, ensure};
use clap::Parser;
use jq_tests::{
    engines::{self, Report, Row},
    lab::Generation,
    require,
};

/// Runs the product with engines of several generations, on simulated hosts. Needs root. What the engines consist of is made on
/// their first use, which takes minutes. Exits with 1 if a check fails.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The engines. Default: all.
    #[arg(value_name = "ROW")]
    rows: Vec<Generation>,
    /// Only list the rows.
    #[arg(long)]
    list: bool,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let is_wanted = |row: &&Row| cli.rows.is_empty() || cli.rows.contains(&row.generation);
    let rows = Row::ALL.iter().filter(is_wanted);
    if cli.list {
        rows.for_each(|row| say(row.name()));
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        require::podman(),
        "this machine does not meet the requirements (see above)"
    );
    let failed: usize = rows.map(run).sum();
    say(&format!("{failed} failed"));
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs a row. Returns the number of checks that failed; a lab that fails counts as one.
fn run(row: &Row) -> usize {
    let mut failed = 0;
    let result = engines::run(row, |report| {
        failed += usize::from(report.fault.is_some());
        say(&describe(report));
    });
    if let Err(error) = result {
        failed += 1;
        say(&format!(
            "{:<18} FAIL          lab: {}",
            row.name(),
            shorten(&format!("{error:#}"))
        ));
    }
    failed
}

fn describe(report: &Report) -> String {
    let (verdict, fault) = match &report.fault {
        Some(fault) => ("FAIL", format!(": {}", shorten(fault))),
        None => ("ok", String::new()),
    };
    let seconds = report.took.as_secs_f64();
    format!(
        "{:<18} {verdict:<4} {seconds:>5.1} s  {}{fault}",
        report.row, report.check
    )
}

/// The start of a message, in one line.
fn shorten(text: &str) -> String {
    let line = text.lines().map(str::trim).collect::<Vec<_>>().join(" / ");
    line.chars().take(600).collect()
}

/// Prints a line on stdout. Ignores errors.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
