//! `jq-agent`: started over SSH by `jq-client`.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::Parser;
use jq_agent::{
    bootstrap::{self, failed},
    cli::{self, Cli, Command},
    netns_helper,
    relay::{self, Relay},
    rundir::RunDir,
    serve::{self, Served, Server},
};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(lines)
        .with(cli::log_filter())
        .init();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    jq_common::descriptors::raise_limit();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A runtime with one thread for all that moves: several would wake each other for each packet.
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Bootstrap { role, nonce } => {
            let runtime = runtime()?;
            let result = runtime.block_on(bootstrap::run(cli::bootstrap(role, &nonce)?));
            end(runtime);
            Ok(result?)
        }
        Command::Serve { run_dir, inherit } => {
            leave_ssh();
            let runtime = runtime()?;
            let result = if inherit {
                runtime.block_on(inherit_and_serve(&run_dir))
            } else {
                runtime.block_on(serve(&run_dir))
            };
            end(runtime);
            result
        }
        Command::Relay { run_dir } => {
            leave_ssh();
            let runtime = runtime()?;
            let result = runtime.block_on(relay(&run_dir));
            end(runtime);
            result
        }
        Command::Inside { socket } => {
            let runtime = runtime()?;
            let result = runtime.block_on(async {
                tokio::select! {
                    result = netns_helper::run(&socket) => result,
                    result = asked_to_end() => result,
                }
            });
            end(runtime);
            Ok(result?)
        }
    }
}

async fn serve(run_dir: &Path) -> anyhow::Result<()> {
    let bound = RunDir::at(run_dir.to_owned())
        .map_err(serve::BindError::Folder)
        .and_then(|folder| {
            let host = cli::host_context(run_dir).map_err(serve::BindError::Folder)?;
            Server::bind(&folder, host)
        });
    let server = match bound {
        Ok(server) => server,
        Err(serve::BindError::Running) => return Ok(bootstrap::report_start(&Ok(())).await?),
        Err(error) => {
            bootstrap::report_start(&Err(failed("the agent cannot start", &error))).await?;
            return Err(error.into());
        }
    };
    bootstrap::report_start(&Ok(())).await?;
    keep_serving(server).await
}

/// The program that ran in this process before has made way for this one.
async fn inherit_and_serve(run_dir: &Path) -> anyhow::Result<()> {
    let server = {
        let folder = RunDir::at(run_dir.to_owned())?;
        rustix::stdio::dup2_stderr(folder.log()?)?;
        Server::inherit(&folder, cli::host_context(run_dir)?).await?
    };
    keep_serving(server).await
}

async fn keep_serving(mut server: Server) -> anyhow::Result<()> {
    loop {
        let served = tokio::select! {
            served = server.join() => served,
            result = asked_to_end() => {
                result?;
                Served::Alone
            }
        };
        match served {
            Served::Replaced(upgrade) => server = Box::pin(server.make_way(upgrade)).await?,
            Served::Alone => break,
        }
    }
    server.shutdown().await;
    Ok(())
}

async fn relay(run_dir: &Path) -> anyhow::Result<()> {
    let bound = RunDir::at(run_dir.to_owned())
        .map_err(relay::BindError::Folder)
        .and_then(|folder| Relay::bind(&folder));
    let relay = match bound {
        Ok(relay) => relay,
        Err(relay::BindError::Running) => return Ok(bootstrap::report_start(&Ok(())).await?),
        Err(error) => {
            bootstrap::report_start(&Err(failed("the relay cannot start", &error))).await?;
            return Err(error.into());
        }
    };
    bootstrap::report_start(&Ok(())).await?;
    tokio::select! {
        () = relay.join() => {}
        result = asked_to_end() => result?,
    }
    relay.shutdown().await;
    Ok(())
}

/// Makes this process its own session, so that the end of the SSH login does not end it.
fn leave_ssh() {
    // Fails only for a process that leads a group already, and then there is nothing to leave.
    let _ = rustix::process::setsid();
}

async fn asked_to_end() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Ends without waiting for a blocked read of standard input.
fn end(runtime: Runtime) {
    runtime.shutdown_timeout(Duration::from_millis(100));
}
