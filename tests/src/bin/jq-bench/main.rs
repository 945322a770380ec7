//! `jq-bench`: measures the product and its alternatives, and writes the results.

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use jq_tests::{
    bench::{self, Benchmark, Options, Results, Row},
    require,
};

/// Benchmarks the product, raw TCP, ssh and dumbpipe on simulated hosts. Needs root, and an otherwise idle machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all benchmarks, or those whose names begin with one of NAMES. Exits with 1 if a bar is missed.
    Run(Run),
    /// List the benchmarks with their bars and aims.
    List,
    /// Hold idle streams open.
    #[command(hide = true)]
    Idle {
        /// The address to which they connect.
        entrance: SocketAddr,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// Names of benchmarks, or prefixes of names.
    names: Vec<String>,
    /// Number of rounds. In each round every peer is measured once.
    #[arg(long)]
    rounds: Option<usize>,
    /// Length of each measurement in seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// Two short rounds without the peers that use BBR: rough figures for development.
    #[arg(long)]
    quick: bool,
    /// Measure only this peer, by its name in the results, and write no results.
    #[arg(long = "peer", value_name = "NAME")]
    peers: Vec<String>,
    /// The folder for the results. Results of benchmarks that do not run now are kept.
    #[arg(long, default_value = "results", value_name = "DIR")]
    out: PathBuf,
}

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::List => {
            for benchmark in bench::benchmarks() {
                let Benchmark {
                    id, name, bar, aim, ..
                } = benchmark;
                say(&format!("{id:<16} {name}: {bar} (aim: {aim})"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(run) => measure(&run),
        Command::Idle { entrance } => {
            bench::hold_idle_streams(entrance)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn measure(run: &Run) -> Result<ExitCode> {
    ensure!(
        require::lab(),
        "this machine does not meet the requirements of the lab (see above)"
    );
    let chosen = chosen(&run.names)?;
    let (rounds, warm_up, length) = if run.quick { (2, 1.5, 4.0) } else { (3, 2.0, 8.0) };
    let options = Options {
        rounds: run.rounds.unwrap_or(rounds),
        warm_up: Duration::from_secs_f64(warm_up),
        length: Duration::from_secs_f64(run.seconds.unwrap_or(length)),
        bbr: !run.quick,
        peers: run.peers.clone(),
        say,
    };
    let (mut missed, mut failed) = (0, 0);
    for benchmark in chosen {
        say(&format!("{}: {}", benchmark.id, benchmark.name));
        let others = others(&options)?;
        match (benchmark.run)(&options) {
            Ok(sheet) => {
                let row = Row::new(&benchmark, &options, others, sheet);
                say(&format!("\n{}", row.table()));
                missed += usize::from(!row.passed());
                if options.peers.is_empty() {
                    keep(row, &run.out)?;
                }
            }
            Err(error) => {
                say(&format!("    FAILED: {error:#}"));
                failed += 1;
            }
        }
    }
    say(&format!(
        "{missed} benchmarks missed a bar, {failed} failed; results: {}",
        run.out.display()
    ));
    Ok(if missed + failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Saves a row. Called after each benchmark, so that an interrupted run keeps its results.
fn keep(row: Row, folder: &Path) -> Result<()> {
    let mut results = Results::load(folder)?;
    results.put(row);
    results.save(folder)
}

fn chosen(names: &[String]) -> Result<Vec<Benchmark>> {
    let all = bench::benchmarks();
    let unknown = names
        .iter()
        .find(|name| !all.iter().any(|benchmark| benchmark.id.starts_with(*name)));
    if let Some(unknown) = unknown {
        bail!("no benchmark's name begins with {unknown}; `jq-bench list` lists all");
    }
    let wanted =
        |benchmark: &Benchmark| names.is_empty() || names.iter().any(|name| benchmark.id.starts_with(name));
    Ok(all.into_iter().filter(wanted).collect())
}

/// The processor time that other processes use before the measurement, in percent of one processor.
fn others(options: &Options) -> Result<f64> {
    // In hundredths of a second (proc(5)): user, nice, system, then (after idle and iowait) irq and softirq.
    let busy = || -> Result<f64> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let line = stat.lines().next().unwrap_or_default();
        let fields: Vec<f64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
        let counted = [0, 1, 2, 5, 6].map(|index: usize| fields.get(index).copied().unwrap_or_default());
        Ok(counted.iter().sum())
    };
    let before = busy()?;
    bench::pass(options.warm_up);
    Ok((busy()? - before) / options.warm_up.as_secs_f64())
}

/// Prints a line on stdout. Ignores errors.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
