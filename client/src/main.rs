//! The binary `jq-client`: reads flags and environment, runs the command, prints its failure.

use std::{pin::pin, process::ExitCode};

use clap::Parser;
use jq_client::{
    cli::{Cli, Command},
    commands::{connect, status},
    error::{Failure, Kind},
    output::{self, Printer},
    settings::{ConnectSettings, Environment, log_filter},
};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

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
    let result = match cli.command {
        Command::Connect(args) => ConnectSettings::new(*args, &environment)
            .and_then(|settings| runtime.block_on(connect(&settings, &printer))),
        Command::Status(args) => runtime.block_on(status::run(&args, &environment, &printer)),
    };
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&printer, &failure),
    }
}

/// Runs `connect` until it fails or the user ends it: the first Ctrl-C disconnects cleanly, the second one exits at once.
async fn connect(settings: &ConnectSettings, printer: &Printer) -> Result<(), Failure> {
    let mut signals =
        Signals::new().map_err(|error| Failure::new(Kind::Local, "cannot handle signals").because(error))?;
    let stop = CancellationToken::new();
    let mut running = pin!(connect::run(settings, printer, &stop));
    tokio::select! {
        ended = &mut running => return ended,
        () = signals.next() => printer.clear_status(),
    }
    stop.cancel();
    tokio::select! {
        ended = &mut running => ended?,
        () = signals.next() => return Err(Failure::interrupted()),
    }
    printer.closed(&settings.host());
    Ok(())
}

fn fail(printer: &Printer, failure: &Failure) -> ExitCode {
    printer.failure(failure);
    ExitCode::from(failure.kind.exit_status())
}

/// Signals that end a command: SIGINT, SIGTERM, SIGHUP.
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
