//! Finds the role's process, or starts it.

use std::{
    io,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use jq_common::{
    codec,
    protocol::{limits, workload::Failure},
};
use tokio::{
    io::{AsyncReadExt, stdout},
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

use super::{
    contract::{PREPARATION, START},
    input::Bootstrap,
    upgrade,
};
use crate::{failure::host_unfit, log_tail::tail_of_file, role::Role, rundir::RunDir};

/// Time limit for a running process to shut down.
const ENDING: Duration = Duration::from_secs(20);

/// Interval between attempts to connect to the process.
const RETRY: Duration = Duration::from_millis(50);

/// Where the role's process comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It ran before; maybe as another build.
    Found,
    /// This bootstrap has started it, in its own login.
    Started,
}

/// The private folder of the role.
pub(super) fn folder(bootstrap: &Bootstrap) -> Result<RunDir, Failure> {
    RunDir::open(&bootstrap.binary, bootstrap.role)
        .map_err(|error| host_unfit("cannot create the agent's private folder", error))
}

/// Connects to the role's process, and starts it first if it is not running.
pub(super) async fn connect_or_start(bootstrap: &Bootstrap) -> Result<(UnixStream, Origin), Failure> {
    let folder = folder(bootstrap)?;
    let deadline = Instant::now() + START + ENDING;
    let mut others_asked = false;
    loop {
        if let Ok(stream) = folder.connect().await {
            return Ok((stream, Origin::Found));
        }
        if bootstrap.role == Role::Serve && !others_asked {
            others_asked = true;
            if upgrade::from_another_build(&bootstrap.binary, &folder).await {
                continue;
            }
        }
        // A process that is shutting down still holds the lock but does not answer; another bootstrap may have started
        // one that does not listen yet.
        start(bootstrap, &folder, Start::Anew).await?;
        match folder.connect().await {
            Ok(stream) => return Ok((stream, Origin::Started)),
            Err(error) if Instant::now() >= deadline => {
                return Err(host_unfit("the agent does not come up", error));
            }
            Err(_) => sleep(RETRY).await,
        }
    }
}

/// How the role's process starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// If no other runs.
    Anew,
    /// It takes over from the one that runs.
    TakingOver,
}

/// Starts the role's process in a session of its own and waits for its report.
pub(super) async fn start(bootstrap: &Bootstrap, folder: &RunDir, how: Start) -> Result<(), Failure> {
    let mut child =
        spawn(bootstrap, folder, how).map_err(|error| host_unfit("cannot start the agent", error))?;
    let Some(output) = child.stdout.take() else {
        return Err(host_unfit("cannot start the agent", "it has no output"));
    };
    let mut output = tokio::process::ChildStdout::from_std(output)
        .map_err(|error| host_unfit("cannot start the agent", error))?;
    let limit = match how {
        Start::Anew => START,
        Start::TakingOver => PREPARATION + START,
    };
    let mut report = Vec::new();
    let read = timeout(limit, output.read_to_end(&mut report)).await;
    match (
        read,
        codec::read::<Result<(), Failure>>(&mut report.as_slice(), limits::BOOTSTRAP_FRAME).await,
    ) {
        (Ok(Ok(_)), Ok(result)) => result,
        _ => Err(host_unfit(
            "the agent does not start",
            last_words(&folder.path().join("log")),
        )),
    }
}

fn spawn(bootstrap: &Bootstrap, folder: &RunDir, how: Start) -> io::Result<Child> {
    let mut command = Command::new(&bootstrap.binary);
    command
        .arg(bootstrap.role.name())
        .arg("--run-dir")
        .arg(folder.path())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(folder.log()?);
    if bootstrap.role == Role::Serve
        && let Some(umask) = bootstrap.login.umask
    {
        command.arg("--umask").arg(format!("{umask:o}"));
    }
    if how == Start::TakingOver {
        command.arg("--take-over");
    }
    command.spawn()
}

/// The last line of the role's log: why it ended, when it ended before it could report that.
fn last_words(log: &Path) -> String {
    let line = tail_of_file(log, 1).pop();
    line.unwrap_or_else(|| "it ended without writing to its log".to_owned())
}

/// Called in the role's process: reports to the bootstrap how the start went, and closes standard output, which belongs
/// to the SSH channel.
///
/// # Errors
/// When standard output cannot be written or replaced.
pub async fn report_start(result: &Result<(), Failure>) -> io::Result<()> {
    let mut output = stdout();
    codec::write(&mut output, result, limits::BOOTSTRAP_FRAME)
        .await
        .map_err(io::Error::other)?;
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(null)?)
}
