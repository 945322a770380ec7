//! A running `/bin/sh` on a host: its standard input, output and error, and its process.

use std::{
    io,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jq_common::bootstrap::{Nonce, NonceScanner, Scan};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, interval, sleep, timeout, timeout_at},
};

use super::{
    diagnose::{self, EndedShell},
    log::Log,
    notes::Notes,
    socket::LogFile,
    stderr::{Collected, Words},
};
use crate::error::{Failure, Kind};

/// Timeout for the first expected output of a shell.
const SPEAKS: Duration = Duration::from_secs(30);

/// How long a process may take to end after its input was closed.
const ENDS: Duration = Duration::from_secs(5);

/// How long standard error may stay open after the process has ended.
const SETTLES: Duration = Duration::from_secs(1);

/// How long a silent shell may take for its last words, once its input was closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Interval of looks at ssh's log.
const LOOK: Duration = Duration::from_millis(10);

/// Limit of a line that a script of this client prints, in bytes.
const LINE: u64 = 8 * 1024;

/// Why a marker was not found; each with the beginning of the output.
#[derive(Debug)]
pub(crate) enum NoMarker {
    /// The output ended.
    Ended(String),
    /// The timeout expired.
    Silent(String),
    /// The output exceeded its limit.
    TooLoud(String),
}

/// A machine on which shells can be started, also by several tasks at once.
pub(crate) trait RemoteHost: Send + Sync {
    /// The host's name as the user writes it, for messages.
    fn name(&self) -> &str;

    /// Starts `/bin/sh -s` without a terminal. Returns as soon as the local process runs; problems on the host show in the
    /// shell's output. Never asks the user.
    ///
    /// # Errors
    /// When the local process cannot be started.
    fn shell(&self) -> Result<Shell, Failure>;
}

/// A shell on a host. Dropping it kills the local process, which ends the shell.
pub(crate) struct Shell {
    /// None after it was closed.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    process: Process,
    /// Told once a script runs.
    answered: Arc<AtomicBool>,
}

/// The local process of a shell, without its input and output. Dropping it kills the process.
pub(crate) struct Process {
    host: String,
    child: Child,
    collected: Collected,
    /// ssh's own messages. None: it is reached without ssh.
    log: Option<LogFile>,
}

/// Delays before further attempts on a host that refused a session: a host that allows one session at a time may not have
/// noticed the end of the previous one yet.
const ASK_AGAIN: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
];

/// Starts a shell on `host`, sends `script`, and skips its output up to the line with `nonce`, which the script prints.
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
    /// Starts `command`, which runs a shell on `host`. If it is an ssh, it writes its own messages to `log`.
    pub(super) fn start(
        host: &str,
        mut command: Command,
        log: Option<LogFile>,
        answered: Arc<AtomicBool>,
    ) -> io::Result<Self> {
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
                collected: Collected::start(
                    child.stderr.take().ok_or_else(missing)?,
                    None::<tokio::io::Empty>,
                    &Notes::none(),
                ),
                child,
                log,
            },
            answered,
        })
    }

    /// The host's name, for messages.
    #[must_use]
    pub(crate) fn host(&self) -> &str {
        &self.process.host
    }

    /// Writes `bytes` to the shell's standard input.
    ///
    /// # Errors
    /// When the shell does not read any more; [`Shell::failure`] gives the cause.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(bytes).await?;
        input.flush().await
    }

    /// Closes the shell's standard input.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// The shell's standard output. After [`Shell::marker`] it continues with the first byte behind the marker.
    pub(crate) fn output(&mut self) -> &mut BufReader<ChildStdout> {
        &mut self.output
    }

    /// Sends a script, and skips the output up to the line with `nonce`, which the script prints.
    ///
    /// # Errors
    /// When the shell ends, prints too much, or does not print the marker within 30 s.
    pub(crate) async fn run(&mut self, script: &str, nonce: &Nonce) -> Result<(), Failure> {
        // A write error means that the shell has ended; its output gives the cause.
        let _ = self.write(script.as_bytes()).await;
        match self.marker(nonce).await {
            Ok(()) => {
                self.answered.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(NoMarker::Ended(printed)) => {
                self.end_input();
                Err(self.process.failure(&printed, Some(nonce)).await)
            }
            Err(NoMarker::Silent(printed)) => {
                // fish reads everything before it says that it understands nothing.
                self.end_input();
                self.process.collected.settle(LAST_WORDS).await;
                let words = self.process.words();
                Err(diagnose::silent(
                    self.host(),
                    &printed,
                    &words,
                    &nonce.to_string(),
                ))
            }
            Err(NoMarker::TooLoud(printed)) => Err(diagnose::too_loud(self.host(), &printed)),
        }
    }

    /// Waits until the host has opened the session: `Some(false)` if it did not, none if it does not say within `limit`.
    pub(super) async fn is_opened(&mut self, limit: Duration) -> Option<bool> {
        let mut look = interval(LOOK);
        let opened = async {
            loop {
                look.tick().await;
                if self.process.words().log.session_opened() {
                    return true;
                }
                if !matches!(self.process.child.try_wait(), Ok(None)) {
                    return false;
                }
            }
        };
        timeout(limit, opened).await.ok()
    }

    /// Skips the output, such as that of start-up files, up to the line with `nonce`.
    ///
    /// # Errors
    /// When the shell ends, prints too much, or does not print the marker within 30 s.
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

    /// Reads one line of a script's output, without its line break.
    ///
    /// # Errors
    /// When the shell ends, or prints no line within `limit`.
    pub(crate) async fn line(&mut self, limit: Duration) -> Result<String, Failure> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.output).take(LINE);
        match timeout(limit, bounded.read_until(b'\n', &mut line)).await {
            Err(_) => Err(diagnose::stuck(self.host(), limit)),
            Ok(Ok(_)) if line.ends_with(b"\n") => {
                line.pop();
                Ok(String::from_utf8_lossy(&line).into_owned())
            }
            Ok(_) => {
                self.end_input();
                Err(self.process.ended_at_work().await)
            }
        }
    }

    pub(super) fn was_refused(&self) -> bool {
        self.process.words().log.session_refused()
    }

    /// The content of standard error as one line, safe to print.
    pub(crate) async fn last_words(&mut self) -> String {
        self.end_input();
        self.process.last_words().await
    }

    /// Closes the input and waits for the process; kills it if it takes too long. None: it was killed.
    pub(crate) async fn close(mut self) -> Option<ExitStatus> {
        self.end_input();
        self.exit_status().await
    }

    /// Exit status of the local process; None if it had to be killed.
    pub(crate) async fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.exit_status().await
    }

    /// Its output and input, and the process, which must be kept while they are used. Buffered output is not lost.
    ///
    /// # Errors
    /// When the input was closed before.
    pub(crate) fn into_parts(self) -> io::Result<(BufReader<ChildStdout>, ChildStdin, Process)> {
        let input = self.input.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((self.output, input, self.process))
    }
}

impl Process {
    /// Why the shell ended although its script was at work.
    pub(crate) async fn ended_at_work(&mut self) -> Failure {
        self.failure("", None).await
    }

    /// Why the shell ended early. `printed` is its unexpected output; `nonce` marks the script that was not seen to run.
    /// Kills the process if it has not ended.
    async fn failure(&mut self, printed: &str, nonce: Option<&Nonce>) -> Failure {
        let status = self.exit_status().await;
        self.collected.settle(SETTLES).await;
        let nonce = nonce.map(ToString::to_string);
        let shell = EndedShell {
            host: &self.host,
            status,
            printed,
            nonce: nonce.as_deref(),
        };
        diagnose::ended_shell(shell, &self.words())
    }

    /// What ssh said, and standard error.
    fn words(&self) -> Words {
        let log = match &self.log {
            Some(log) => Log::from(log.read().as_str()),
            None => Log::without_ssh(),
        };
        self.collected.words().with_log(log)
    }

    /// The content of standard error as one line, safe to print.
    async fn last_words(&mut self) -> String {
        self.exit_status().await;
        self.collected.settle(SETTLES).await;
        Vec::from(self.collected.words().said).join(" ")
    }

    /// Exit status of the local process after its input was closed; None if it had to be killed.
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

/// The failure to start a local program.
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
