//! Finds the role's process, or starts it.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
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

use super::{contract::START, upgrade};
use crate::{failure::host_unfit, log_tail::tail_of_file, role::Role, rundir::RunDir};

/// Time limit for a running process to shut down.
const ENDING: Duration = Duration::from_secs(20);

/// Interval between attempts to connect to the process.
const RETRY: Duration = Duration::from_millis(50);

/// Connects to the role's process, and starts it first if it is not running.
pub(super) async fn connect_or_start(binary: &Path, role: Role) -> Result<UnixStream, Failure> {
    let folder = RunDir::open(binary, role)
        .map_err(|error| host_unfit("cannot create the agent's private folder", error))?;
    let deadline = Instant::now() + START + ENDING;
    let mut others_asked = false;
    loop {
        if let Ok(stream) = folder.connect().await {
            return Ok(stream);
        }
        if role == Role::Serve && !others_asked {
            others_asked = true;
            if upgrade::from_another_build(binary, &folder).await {
                continue;
            }
        }
        // A process that is shutting down still holds the lock but does not answer; another bootstrap may have started
        // one that does not listen yet.
        start(binary, role, &folder).await?;
        match folder.connect().await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= deadline => {
                return Err(host_unfit("the agent does not come up", error));
            }
            Err(_) => sleep(RETRY).await,
        }
    }
}

/// Starts the role's process in a session of its own and waits for its report.
async fn start(binary: &Path, role: Role, folder: &RunDir) -> Result<(), Failure> {
    let spawn = || -> io::Result<_> {
        Command::new(binary)
            .arg(role.name())
            .arg("--run-dir")
            .arg(folder.path())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(folder.log()?)
            .spawn()
    };
    let mut child = spawn().map_err(|error| host_unfit("cannot start the agent", error))?;
    let Some(output) = child.stdout.take() else {
        return Err(host_unfit("cannot start the agent", "it has no output"));
    };
    let mut output = tokio::process::ChildStdout::from_std(output)
        .map_err(|error| host_unfit("cannot start the agent", error))?;
    let mut report = Vec::new();
    let read = timeout(START, output.read_to_end(&mut report)).await;
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
