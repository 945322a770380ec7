//! The binary `jq-client`: reads flags and environment, runs the command, prints its failure.

use std::process::ExitCode;

use clap::Parser;
use jq_client::{
    cli::{Cli, Command},
    commands,
    error::{Failure, Kind},
    output::{self, Printer},
    settings::{Environment, log_filter},
};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let status = run();
    output::flush();
    status
}

fn run() -> ExitCode {
    let cli = Cli::parse();
    jq_common::descriptors::raise_limit();
    tracing_subscriber::fmt()
        .with_env_filter(log_filter())
        .with_writer(output::log)
        .init();
    let json = match &cli.command {
        Command::Connect(args) => args.json,
        Command::Status(args) => args.json,
    };
    let environment = match Environment::read() {
        Ok(environment) => environment,
        Err(failure) => return fail(&Printer::plain(json), &failure),
    };
    let printer = Printer::new(environment.terminal, json);
    // One thread for all I/O: with several, tasks wake each other for every packet (see DECISIONS.md).
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(
                &printer,
                &Failure::new(Kind::Local, "cannot start").because(error),
            );
        }
    };
    let result = runtime.block_on(commands::run(cli.command, &environment, &printer));
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&printer, &failure),
    }
}

fn fail(printer: &Printer, failure: &Failure) -> ExitCode {
    printer.failure(failure);
    ExitCode::from(failure.kind.exit_status())
}
