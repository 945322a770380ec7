//! `jq-faults`: runs scenarios of the fault table and prints one line for each.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use jq_tests::{
    faults::{self, Bench, Outcome, Scenario},
    require,
};
use serde::Serialize;

/// Runs the fault table: faults that the product must survive, with real processes on simulated hosts. Needs root.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios: all quick ones, or those named (F3, F3-5s). Exits with 1 if a bar is missed.
    Run {
        /// Numbers of scenarios (F3), or ids (F3-5s).
        ids: Vec<String>,
        /// Also run the long scenarios, and use longer transfers.
        #[arg(long)]
        long: bool,
        /// How many seeds to run for scenarios with random faults.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
        /// The first seed, to repeat an earlier run. Default: random.
        #[arg(long, value_name = "SEED")]
        first_seed: Option<u64>,
        /// Only list the scenarios.
        #[arg(long)]
        list: bool,
        /// Also write the results to this file, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

/// A row of the results.
#[derive(Serialize)]
struct Row {
    id: &'static str,
    fault: &'static str,
    bar: &'static str,
    passed: bool,
    seconds: f64,
    outcome: Option<Outcome>,
    error: Option<String>,
}

fn main() -> Result<ExitCode> {
    let Command::Run {
        ids,
        long,
        seeds,
        first_seed,
        list,
        json,
    } = Cli::parse().command;
    let chosen = chosen(&ids, long)?;
    if list {
        for scenario in chosen {
            let length = if scenario.quick { "quick" } else { "long" };
            say(&format!(
                "{:<14} {length:<5}  {}: {}",
                scenario.id, scenario.name, scenario.bar
            ));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let bench = Bench {
        long,
        seeds,
        first_seed: first_seed.unwrap_or_else(faults::random_seed),
    };
    let mut rows = Vec::new();
    for scenario in chosen {
        let row = run(&scenario, &bench);
        say(&describe(&row));
        rows.push(row);
        if let Some(file) = &json {
            // After each scenario, so that an interrupted run keeps its results.
            fs::write(file, serde_json::to_string_pretty(&rows)?)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    let failed = rows.iter().filter(|row| !row.passed).count();
    say(&format!("{} of {} passed", rows.len() - failed, rows.len()));
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn chosen(ids: &[String], long: bool) -> Result<Vec<Scenario>> {
    let all = faults::all();
    if let Some(unknown) = ids.iter().find(|id| !all.iter().any(|scenario| scenario.is(id))) {
        bail!("unknown scenario {unknown}; `jq-faults run --long --list` lists all");
    }
    let named = |scenario: &Scenario| ids.is_empty() || ids.iter().any(|id| scenario.is(id));
    let whole = |scenario: &Scenario| ids.iter().any(|id| scenario.id == id);
    let wanted = |scenario: &Scenario| named(scenario) && (scenario.quick || long || whole(scenario));
    Ok(all.into_iter().filter(wanted).collect())
}

fn run(scenario: &Scenario, bench: &Bench) -> Row {
    let met = if scenario.engine {
        require::docker()
    } else {
        require::lab()
    };
    let start = Instant::now();
    let result = if met {
        (scenario.run)(bench)
    } else {
        Err(anyhow::anyhow!(
            "this machine does not meet the requirements (see above)"
        ))
    };
    let (outcome, error) = match result {
        Ok(outcome) => (Some(outcome), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    Row {
        id: scenario.id,
        fault: scenario.name,
        bar: scenario.bar,
        passed: outcome.as_ref().is_some_and(Outcome::passed),
        seconds: start.elapsed().as_secs_f64(),
        outcome,
        error,
    }
}

fn describe(row: &Row) -> String {
    let figures = match (&row.outcome, &row.error) {
        (Some(outcome), _) => outcome.to_string(),
        (None, Some(error)) => error
            .lines()
            .take(3)
            .collect::<Vec<_>>()
            .join(" / ")
            .chars()
            .take(400)
            .collect(),
        (None, None) => String::new(),
    };
    let verdict = if row.passed { "ok" } else { "FAIL" };
    format!(
        "{:<14} {verdict:<4} {:>5.1} s  {} | {figures} | {}",
        row.id, row.seconds, row.fault, row.bar
    )
}

/// Prints a line on stdout. Ignores errors.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
