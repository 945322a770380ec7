//! `jq-client`.

use std::process::ExitCode;

use clap::Parser;
use jq_client::{
    cli::{Cli, Command},
    commands::connect,
    error::{Failure, Kind},
    output::Printer,
    settings::{ConnectSettings, Environment, log_filter},
};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    jq_common::descriptors::raise_limit();
    tracing_subscriber::fmt()
        .with_env_filter(log_filter())
        .with_writer(std::io::stderr)
        .init();
    let Command::Connect(args) = cli.command;
    let json = args.json;
    let environment = match Environment::read() {
        Ok(environment) => environment,
        Err(failure) => return fail(&Printer::plain(json), &failure),
    };
    let printer = Printer::new(&environment, json);
    let settings = match ConnectSettings::new(*args, &environment) {
        Ok(settings) => settings,
        Err(failure) => return fail(&printer, &failure),
    };
    let runtime = match Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(
                &printer,
                &Failure::new(Kind::Local, "cannot start").because(error),
            );
        }
    };
    let status = runtime.block_on(connect(&settings, &environment, &printer));
    runtime.shutdown_background();
    status
}

/// Runs `connect` until it fails or the user ends it: the first Ctrl-C disconnects in order, a second one at once.
async fn connect(settings: &ConnectSettings, environment: &Environment, printer: &Printer) -> ExitCode {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            return fail(
                printer,
                &Failure::new(Kind::Local, "cannot hear signals").because(error),
            );
        }
    };
    let mut agent = None;
    let failure = tokio::select! {
        result = connect::run(settings, environment, printer, |opened| agent = Some(opened)) => {
            let Err(failure) = result;
            failure
        }
        () = signals.next() => match agent.take() {
            Some(agent) => {
                tokio::select! {
                    () = agent.close() => {}
                    () = signals.next() => {}
                }
                printer.closed(&settings.target.to_string());
                return ExitCode::SUCCESS;
            }
            None => Failure::new(Kind::Interrupted, "interrupted"),
        },
    };
    fail(printer, &failure)
}

fn fail(printer: &Printer, failure: &Failure) -> ExitCode {
    printer.failure(failure);
    ExitCode::from(failure.kind.exit_status())
}

/// What ends a command: Ctrl-C, a polite kill, a closed terminal.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
