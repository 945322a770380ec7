//! A running `/bin/sh` whose standard input and output are ours.

use std::{io, process::ExitStatus, process::Stdio, time::Duration};

use jq_common::{
    bootstrap::{Nonce, NonceScanner, Scan},
    text,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{diagnose, stderr::Collected};
use crate::error::{Failure, Kind};

/// How long a shell may take until it has said the first thing that was asked of it.
const SPEAKS: Duration = Duration::from_secs(30);

/// How long a process may take to end once there is nothing left for it to do.
const ENDS: Duration = Duration::from_secs(5);

/// How long standard error may stay open after that.
const SETTLES: Duration = Duration::from_secs(1);

/// Longest line that our own scripts print, in bytes.
const LINE: u64 = 8 * 1024;

/// Why a marker was not found, each with the beginning of what came instead.
#[derive(Debug)]
pub(crate) enum NoMarker {
    /// The output ended.
    Ended(String),
    /// It did not come in time.
    Silent(String),
    /// Too much came.
    TooLoud(String),
}

/// A machine on which a shell can be had. Can be asked from several tasks at once.
pub(crate) trait RemoteHost: Send + Sync {
    /// The host as its user calls it, for messages.
    fn name(&self) -> &str;

    /// Starts `/bin/sh -s` there, with nobody's terminal. Returns as soon as the process on this machine runs: whether
    /// the host plays along is seen on the shell's output. Never asks the user anything.
    ///
    /// # Errors
    /// When no process can be started on this machine.
    fn shell(&self) -> Result<Shell, Failure>;
}

/// A shell on a host. Dropping it kills the local process, upon which the host's own ends.
pub(crate) struct Shell {
    /// None once closed.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    process: Process,
}

/// The local process of a shell, without its input and output. Dropping it kills the process.
pub(crate) struct Process {
    host: String,
    child: Child,
    complaints: Collected,
}

/// How long to wait before asking again a host that opened no session: one that allows a single session at a time may
/// not have noticed yet that the last has ended.
const ASK_AGAIN: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
];

/// Starts a shell on `host`, gives it `script` and reads up to the line that is `nonce`, which the script prints.
///
/// # Errors
/// As [`RemoteHost::shell`] and [`Shell::run`].
pub(crate) async fn run(host: &dyn RemoteHost, script: &str, nonce: &Nonce) -> Result<Shell, Failure> {
    let mut pauses = ASK_AGAIN.into_iter();
    loop {
        let mut shell = host.shell()?;
        let Err(failure) = shell.run(script, nonce).await else {
            return Ok(shell);
        };
        match pauses.next() {
            Some(pause) if shell.was_refused() => sleep(pause).await,
            _ => return Err(failure),
        }
    }
}

impl Shell {
    /// Starts `command`, which is a shell on `host`.
    pub(super) fn start(host: &str, mut command: Command) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        Ok(Self {
            input: Some(child.stdin.take().ok_or_else(missing)?),
            output: BufReader::new(child.stdout.take().ok_or_else(missing)?),
            process: Process {
                host: host.to_owned(),
                complaints: Collected::start(child.stderr.take().ok_or_else(missing)?, None),
                child,
            },
        })
    }

    /// The host's name, for messages.
    #[must_use]
    pub(crate) fn host(&self) -> &str {
        &self.process.host
    }

    /// Gives the shell `bytes` to read.
    ///
    /// # Errors
    /// When nobody reads them any more; [`Shell::failure`] says why.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(bytes).await?;
        input.flush().await
    }

    /// Tells the shell that nothing more comes.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// What the shell prints. Reading it past a [`Shell::marker`] gives the first byte after it.
    pub(crate) fn output(&mut self) -> &mut BufReader<ChildStdout> {
        &mut self.output
    }

    /// Gives the shell a script and reads up to the line that is `nonce`, which the script prints.
    ///
    /// # Errors
    /// When the shell ends, says too much, or does not say it within 30 s.
    pub(crate) async fn run(&mut self, script: &str, nonce: &Nonce) -> Result<(), Failure> {
        // A shell that does not take it has ended, which its output tells with the reason.
        let _ = self.write(script.as_bytes()).await;
        match self.marker(nonce).await {
            Ok(()) => Ok(()),
            Err(NoMarker::Ended(printed)) => Err(self.failure(&printed).await),
            Err(NoMarker::Silent(printed)) => Err(diagnose::silent(self.host(), &printed)),
            Err(NoMarker::TooLoud(printed)) => Err(diagnose::too_loud(self.host(), &printed)),
        }
    }

    /// Reads up to the line that is `nonce`, past whatever start-up files print.
    ///
    /// # Errors
    /// With what came instead, when the shell ends, says too much, or does not say it within 30 s.
    pub(crate) async fn marker(&mut self, nonce: &Nonce) -> Result<(), NoMarker> {
        let mut scanner = NonceScanner::new(nonce);
        let deadline = Instant::now() + SPEAKS;
        loop {
            let piece = match timeout_at(deadline, self.output.fill_buf()).await {
                Err(_) => return Err(NoMarker::Silent(scanner.seen_instead())),
                Ok(Err(_) | Ok([])) => return Err(NoMarker::Ended(scanner.seen_instead())),
                Ok(Ok(piece)) => piece,
            };
            let (length, scan) = (piece.len(), scanner.push(piece));
            match scan {
                Scan::Found { used } => {
                    self.output.consume(used);
                    return Ok(());
                }
                Scan::Searching => self.output.consume(length),
                Scan::GaveUp => return Err(NoMarker::TooLoud(scanner.seen_instead())),
            }
        }
    }

    /// Reads one line of our own scripts' output, without its end.
    ///
    /// # Errors
    /// When the shell ends or says nothing for `limit`.
    pub(crate) async fn line(&mut self, limit: Duration) -> Result<String, Failure> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.output).take(LINE);
        match timeout(limit, bounded.read_until(b'\n', &mut line)).await {
            Err(_) => Err(diagnose::silent(self.host(), "")),
            Ok(Ok(_)) if line.ends_with(b"\n") => {
                line.pop();
                Ok(String::from_utf8_lossy(&line).into_owned())
            }
            Ok(_) => Err(self.failure(&String::from_utf8_lossy(&line)).await),
        }
    }

    /// Why the shell ended before its time. `printed` is what it said instead of what was expected.
    pub(crate) async fn failure(&mut self, printed: &str) -> Failure {
        self.end_input();
        self.process.failure(printed).await
    }

    fn was_refused(&self) -> bool {
        diagnose::is_refused_session(&self.process.complaints.lines().all())
    }

    /// What was written to standard error before the shell ended, as one line, safe to print.
    pub(crate) async fn last_words(&mut self) -> String {
        self.end_input();
        self.process.last_words().await
    }

    /// Ends the input and waits until the process is gone, killing it if it takes too long. None: it had to be killed.
    pub(crate) async fn close(mut self) -> Option<ExitStatus> {
        self.end_input();
        self.exit_status().await
    }

    /// The status of the local process; None when it had to be killed.
    pub(crate) async fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.exit_status().await
    }

    /// Its output and input, and the process, which must be kept for as long as they are used. What was read ahead of
    /// the output stays in it.
    ///
    /// # Errors
    /// When the input was ended before.
    pub(crate) fn into_parts(self) -> io::Result<(BufReader<ChildStdout>, ChildStdin, Process)> {
        let input = self.input.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((self.output, input, self.process))
    }
}

impl Process {
    /// Why the shell ended before its time. `printed` is what it said instead of what was expected. Kills it if it did
    /// not end.
    pub(crate) async fn failure(&mut self, printed: &str) -> Failure {
        let status = self.exit_status().await;
        self.complaints.settle(SETTLES).await;
        let complaints = self.complaints.lines().all();
        diagnose::shell(&self.host, &complaints, status, &text::one_line(printed, 200))
    }

    /// What was written to standard error before the shell ended, as one line, safe to print.
    async fn last_words(&mut self) -> String {
        self.exit_status().await;
        self.complaints.settle(SETTLES).await;
        self.complaints.lines().all().join(" ")
    }

    /// The status of the local process, once its input has ended; None when it had to be killed.
    async fn exit_status(&mut self) -> Option<ExitStatus> {
        match timeout(ENDS, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                let _ = self.child.kill().await;
                None
            }
        }
    }
}

/// A failure of this machine to start a program.
pub(super) fn cannot_start(program: &str, error: &io::Error) -> Failure {
    let failure = Failure::new(Kind::Local, format!("cannot start `{program}`")).because(error);
    match (error.kind(), program) {
        (io::ErrorKind::NotFound, "/bin/sh") => failure,
        (io::ErrorKind::NotFound, _) => {
            failure.hint("install OpenSSH's client (Debian: apt install openssh-client)")
        }
        _ => failure,
    }
}
