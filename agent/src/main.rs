//! `jq-agent`: started over SSH by `jq-client`.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::Parser;
use jq_agent::{
    bootstrap,
    cli::{self, Cli, Command},
    failure::host_unfit,
    netns_helper,
    relay::Relay,
    role_start::StartError,
    rundir::RunDir,
    serve::{Served, Server},
};
use rustix::fs::Mode;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// The exit status of a shell that cannot execute a file (sh(1)): the client then uploads the agent again.
const CANNOT_EXECUTE: u8 = 126;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(lines)
        .with(cli::log_filter())
        .init();
    let umask = rustix::process::umask(Mode::from_raw_mode(0o077));
    jq_common::descriptors::raise_limit();
    match run(cli.command, umask) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `work` on a single thread: with several, the tasks of a connection would wake each other for each packet.
/// Returns without waiting for a blocked read of standard input.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// `umask` is that of the login, as far as this process has it.
fn run(command: Command, umask: Mode) -> anyhow::Result<ExitCode> {
    let ended = match command {
        Command::Bootstrap {
            role,
            nonce,
            conditions,
        } => {
            if !conditions.is_right_program()? {
                tracing::error!("the file of this program is not what the client has");
                return Ok(ExitCode::from(CANNOT_EXECUTE));
            }
            let bootstrap = cli::bootstrap(role, &nonce, conditions, umask)?;
            block_on(async { Ok(bootstrap::run(bootstrap).await?) })
        }
        Command::Serve {
            run_dir,
            inherit,
            take_over,
            umask,
        } => {
            leave_ssh();
            block_on(async {
                match (inherit, take_over) {
                    (true, _) => inherit_and_serve(&run_dir).await,
                    (false, true) => take_over_and_serve(&run_dir, umask).await,
                    (false, false) => serve(&run_dir, umask).await,
                }
            })
        }
        Command::Relay { run_dir } => {
            leave_ssh();
            block_on(relay(&run_dir))
        }
        Command::Inside { socket } => block_on(async {
            tokio::select! {
                result = netns_helper::run(&socket) => Ok(result?),
                result = termination_requested() => Ok(result?),
            }
        }),
    };
    ended.map(|()| ExitCode::SUCCESS)
}

async fn serve(run_dir: &Path, umask: Option<u32>) -> anyhow::Result<()> {
    let bound = folder(run_dir).and_then(|folder| {
        let host = cli::host_context(run_dir, umask).map_err(StartError::Folder)?;
        Server::bind(&folder, host)
    });
    match report(bound, "the agent cannot start").await? {
        Some(server) => keep_serving(server).await,
        None => Ok(()),
    }
}

fn folder(run_dir: &Path) -> Result<RunDir, StartError> {
    RunDir::at(run_dir.to_owned()).map_err(StartError::Folder)
}

/// Reports to the bootstrap how the start went. Returns None when another process of the role is already running; that
/// one then answers.
async fn report<T>(bound: Result<T, StartError>, what: &str) -> anyhow::Result<Option<T>> {
    match bound {
        Ok(role) => {
            bootstrap::report_start(&Ok(())).await?;
            Ok(Some(role))
        }
        Err(StartError::Running) => {
            bootstrap::report_start(&Ok(())).await?;
            Ok(None)
        }
        Err(error) => {
            bootstrap::report_start(&Err(host_unfit(what, &error))).await?;
            Err(error.into())
        }
    }
}

/// Takes over from the process of an earlier login, which then ends.
async fn take_over_and_serve(run_dir: &Path, umask: Option<u32>) -> anyhow::Result<()> {
    let taken = async {
        let host = cli::host_context(run_dir, umask).map_err(StartError::Folder)?;
        Server::take_over(&folder(run_dir)?, host).await
    };
    match report(taken.await, "the agent cannot take over").await? {
        Some(server) => keep_serving(server).await,
        None => Ok(()),
    }
}

/// Takes over from the program that ran in this process before (execve(2)).
async fn inherit_and_serve(run_dir: &Path) -> anyhow::Result<()> {
    let server = {
        let folder = RunDir::at(run_dir.to_owned())?;
        rustix::stdio::dup2_stderr(folder.log()?)?;
        Server::inherit(&folder, cli::host_context(run_dir, None)?).await?
    };
    keep_serving(server).await
}

async fn keep_serving(mut server: Server) -> anyhow::Result<()> {
    loop {
        let served = tokio::select! {
            served = server.join() => served,
            result = termination_requested() => {
                result?;
                Served::Idle
            }
        };
        match served {
            Served::Upgrade(upgrade) => match Box::pin(server.hand_over(upgrade)).await? {
                Some(restored) => server = restored,
                // At once, as execve(2) would: nothing may be closed or ended that the successor has now.
                None => std::process::exit(0),
            },
            Served::Idle => break,
        }
    }
    server.shutdown().await;
    Ok(())
}

async fn relay(run_dir: &Path) -> anyhow::Result<()> {
    let bound = folder(run_dir).and_then(|folder| Relay::bind(&folder));
    let Some(relay) = report(bound, "the relay cannot start").await? else {
        return Ok(());
    };
    tokio::select! {
        () = relay.join() => {}
        result = termination_requested() => result?,
    }
    relay.shutdown().await;
    Ok(())
}

/// Starts a new session, so that the end of the SSH login does not end this process.
fn leave_ssh() {
    // Fails only for a process group leader, which already has its own session.
    let _ = rustix::process::setsid();
}

async fn termination_requested() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
