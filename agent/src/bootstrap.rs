//! The SSH channel's end on a host: prints the nonce, passes one message each way between the client and the role's
//! long-living process, and starts that process unless it runs.

mod addresses;
mod upgrade;

use std::{
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use jq_common::{
    bootstrap::{BootstrapReply, BootstrapRequest, Nonce, Started},
    codec::{self, FrameError},
    protocol::{
        limits,
        workload::{Failure, FailureKind},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, stdin, stdout},
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

use crate::rundir::RunDir;

/// Which long-living process a bootstrap is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// The agent on the GPU host.
    Serve,
    /// The relay on a gateway.
    Relay,
}

impl Role {
    /// The name of its command.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Relay => "relay",
        }
    }
}

/// What the bootstrap needs to know of its surroundings.
pub struct Bootstrap {
    /// The role wanted.
    pub(crate) role: Role,
    /// Printed before anything else.
    pub(crate) nonce: Nonce,
    /// This program's own file.
    pub(crate) binary: PathBuf,
    /// This host's address on the SSH connection, where there is one.
    pub(crate) address: Option<IpAddr>,
}

/// How long the role's process may take to be ready.
const START: Duration = Duration::from_secs(10);

/// How long one that runs may take to end.
const ENDING: Duration = Duration::from_secs(20);

/// How long to wait before the process is looked for again.
const RETRY: Duration = Duration::from_millis(50);

/// How long the client may take to say its message. It waits for other hosts first.
const REQUEST: Duration = Duration::from_secs(300);

/// Bytes copied at once between the SSH channel and the process.
const SPLICED: usize = 64 * 1024;

/// Runs the bootstrap on standard input and output. Returns while a read of standard input may still be under way.
///
/// # Errors
/// When the client's side cannot be read or written. A failure on this side is told to the client instead.
pub async fn run(bootstrap: Bootstrap) -> Result<(), FrameError> {
    let mut output = stdout();
    output
        .write_all(format!("{}\n", bootstrap.nonce).as_bytes())
        .await?;
    output.flush().await?;

    let mut input = stdin();
    let (process, request) = tokio::join!(
        reach(&bootstrap),
        codec::read_within::<BootstrapRequest>(&mut input, limits::BOOTSTRAP_FRAME, REQUEST)
    );
    let request = request?;
    let answered = match process {
        Ok(stream) => answer(stream, &request, &bootstrap).await,
        Err(failure) => Err(failure),
    };
    let (reply, process) = match answered {
        Ok((started, process)) => (Ok(started), Some(process)),
        Err(failure) => (Err(failure), None),
    };
    codec::write(&mut output, &reply, limits::BOOTSTRAP_FRAME).await?;
    match (request, process) {
        (BootstrapRequest::AdmitAndTunnel(_), Some(process)) => Ok(splice(input, output, process).await?),
        _ => Ok(()),
    }
}

/// Copies both ways until either ends. What is under way the other way is lost with it, as packets may be.
async fn splice(
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
    process: UnixStream,
) -> io::Result<()> {
    let (from_process, to_process) = process.into_split();
    tokio::select! {
        ended = copy(input, to_process) => ended,
        ended = copy(from_process, output) => ended,
    }
}

/// Copies what comes at once: the other side waits for every packet.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; SPLICED];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
    }
}

/// The process's answer, and the process. One that was ending when it was reached is given up for its successor.
async fn answer(
    process: UnixStream,
    request: &BootstrapRequest,
    bootstrap: &Bootstrap,
) -> Result<(Started, UnixStream), Failure> {
    let (reply, process) = match exchange(process, request).await {
        Ok(answered) => answered,
        Err(error) => {
            tracing::info!(%error, "the process ended; starting another");
            let successor = reach(bootstrap).await?;
            exchange(successor, request)
                .await
                .map_err(|error| failed("the agent does not answer", error))?
        }
    };
    let started = match reply? {
        Started::Serve(mut serve) => {
            serve.address = bootstrap.address;
            serve.others = addresses::own();
            Started::Serve(serve)
        }
        Started::Relay(mut relay) => {
            relay.address = bootstrap.address;
            Started::Relay(relay)
        }
    };
    Ok((started, process))
}

async fn exchange(
    mut process: UnixStream,
    request: &BootstrapRequest,
) -> Result<(BootstrapReply, UnixStream), FrameError> {
    codec::write(&mut process, request, limits::BOOTSTRAP_FRAME).await?;
    let reply = codec::read_within(&mut process, limits::BOOTSTRAP_FRAME, START).await?;
    Ok((reply, process))
}

/// Connects to the role's process, starting it first when there is none.
async fn reach(bootstrap: &Bootstrap) -> Result<UnixStream, Failure> {
    let folder = RunDir::open(&bootstrap.binary, bootstrap.role)
        .map_err(|error| failed("cannot make the agent's private folder", error))?;
    let deadline = Instant::now() + START + ENDING;
    let mut others_asked = false;
    loop {
        if let Ok(stream) = folder.connect().await {
            return Ok(stream);
        }
        if bootstrap.role == Role::Serve && !others_asked {
            others_asked = true;
            if upgrade::from_another_build(&bootstrap.binary, &folder).await {
                continue;
            }
        }
        // One that is ending holds its place without answering; another bootstrap's may be on its way to its socket.
        start(bootstrap, &folder).await?;
        match folder.connect().await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= deadline => {
                return Err(failed("the agent does not come up", error));
            }
            Err(_) => sleep(RETRY).await,
        }
    }
}

/// Starts the role's process in a session of its own and waits until it says how that went.
async fn start(bootstrap: &Bootstrap, folder: &RunDir) -> Result<(), Failure> {
    let spawn = || -> io::Result<_> {
        Command::new(&bootstrap.binary)
            .arg(bootstrap.role.name())
            .arg("--run-dir")
            .arg(folder.path())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(folder.log()?)
            .spawn()
    };
    let mut child = spawn().map_err(|error| failed("cannot start the agent", error))?;
    let Some(output) = child.stdout.take() else {
        return Err(failed("cannot start the agent", "it has no output"));
    };
    let mut output = tokio::process::ChildStdout::from_std(output)
        .map_err(|error| failed("cannot start the agent", error))?;
    let mut said = Vec::new();
    let heard = timeout(START, output.read_to_end(&mut said)).await;
    match (
        heard,
        codec::read::<Result<(), Failure>>(&mut said.as_slice(), limits::BOOTSTRAP_FRAME).await,
    ) {
        (Ok(Ok(_)), Ok(result)) => result,
        _ => Err(failed(
            "the agent does not start",
            last_words(&folder.path().join("log")),
        )),
    }
}

/// The end of the role's log: why it died, when it died before it could say so.
fn last_words(log: &Path) -> String {
    let mut text = String::new();
    // Without a log there is nothing to add to the failure.
    let _ = std::fs::File::open(log).and_then(|file| file.take(64 * 1024).read_to_string(&mut text));
    text.lines()
        .next_back()
        .unwrap_or("it ended without a word")
        .to_owned()
}

/// The role's process tells its bootstrap how its start went, and lets go of the SSH channel's descriptors.
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

/// A failure of the host or of this program, in the client's words.
pub fn failed(what: &str, why: impl std::fmt::Display) -> Failure {
    Failure {
        kind: FailureKind::HostUnfit,
        what: what.to_owned(),
        why: why.to_string(),
        hint: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn bytes_behind_the_messages_pass_both_ways_until_either_side_ends() {
        for client_ends in [true, false] {
            let (mut to_us, input) = duplex(1 << 20);
            let (output, mut from_us) = duplex(1 << 20);
            let (process, mut agent) = UnixStream::pair().unwrap();
            let talk = async move {
                to_us.write_all(&[1; 200_000]).await.unwrap();
                let mut got = vec![0; 200_000];
                agent.read_exact(&mut got).await.unwrap();
                assert_eq!(got, [1; 200_000]);
                agent.write_all(&[2; 200_000]).await.unwrap();
                from_us.read_exact(&mut got).await.unwrap();
                assert_eq!(got, [2; 200_000]);
                // The other side stays as it is.
                if client_ends {
                    drop(to_us);
                    (None, Some(agent))
                } else {
                    drop(agent);
                    (Some(to_us), None)
                }
            };
            let both = async { tokio::join!(splice(input, output, process), talk) };
            let (ended, _kept) = timeout(Duration::from_secs(10), both).await.expect("it ends");
            ended.unwrap();
        }
    }
}
