//! A master connection of our own: one ssh process, held for as long as this value lives.

use std::{
    io,
    os::fd::OwnedFd,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::{Instant, interval},
};

use super::{
    chain::Hop,
    command,
    notes::Notes,
    options::SshOptions,
    shell::cannot_start,
    socket::Socket,
    stderr::{Collected, Words, terminal},
};
use crate::{
    error::{Failure, Kind},
    reporter::Reporter,
};

/// Interval of checks for the control socket. Short, because everything waits for it.
const LOOK: Duration = Duration::from_millis(5);

/// Timeout of a connection in batch mode, including the login.
const BATCH: Duration = Duration::from_secs(60);

/// The same where a ProxyCommand makes the connection, which may wake a machine.
const BATCH_BY_PROXY: Duration = Duration::from_secs(180);

/// How long a connection may take to end before it is killed.
#[cfg(test)]
const ENDS: Duration = Duration::from_secs(2);

/// A master connection. Dropping it ends it without waiting.
pub(super) struct Master {
    connection: Child,
    /// Standard input of [`command::HELD`]: closing it ends the connection.
    pub(super) hold: Option<OwnedFd>,
    collected: Collected,
    socket: Socket,
    limit: Option<Duration>,
}

/// Why a connection was not established.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotEstablished {
    /// ssh has ended.
    Ended(Option<ExitStatus>),
    /// The host prints without end.
    Endless,
    /// It took longer than this in batch mode.
    TooLong(Duration),
}

impl Master {
    /// Starts the connection to `hop`, through the master connection `previous` if there is one.
    ///
    /// # Errors
    /// When the local process cannot be started.
    pub(super) fn start(
        hop: &Hop,
        socket: &Socket,
        options: &SshOptions,
        previous: Option<(&Hop, &Socket)>,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<Self, Failure> {
        let arguments = command::connection(options, hop, socket, previous).ok_or_else(|| {
            Failure::new(Kind::Local, "cannot quote a path for ssh").because(socket.path().display())
        })?;
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(if options.batch {
                command::HELD_APART
            } else {
                command::HELD
            })
            .arg("ssh")
            .arg(&options.program)
            .args(arguments);
        if options.batch {
            let (name, value) = command::NO_WINDOWS;
            command.env(name, value);
        }
        let name = hop.destination.written();
        let notes = Notes::new(Arc::clone(reporter), name, hop.resolved.is_quiet());
        let (connection, hold, collected) =
            spawn(command, options, &notes).map_err(|e| cannot_start("/bin/sh", &e))?;
        let batch = match hop.resolved.proxy_command {
            Some(_) if previous.is_none() => BATCH_BY_PROXY,
            _ => BATCH,
        };
        Ok(Self {
            connection,
            hold: Some(hold),
            collected,
            socket: socket.clone(),
            limit: options.batch.then_some(batch),
        })
    }

    /// Waits until the connection is established; without a limit unless in batch mode, because the user may have to
    /// answer questions.
    ///
    /// # Errors
    /// When it will not be.
    pub(super) async fn established(&mut self) -> Result<(), NotEstablished> {
        let started = Instant::now();
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                status = self.connection.wait() => return Err(NotEstablished::Ended(status.ok())),
                _ = look.tick() => {
                    if self.socket.path().exists() {
                        return Ok(());
                    }
                    if self.collected.are_endless() {
                        return Err(NotEstablished::Endless);
                    }
                    if let Some(limit) = self.limit.filter(|limit| started.elapsed() > *limit) {
                        return Err(NotEstablished::TooLong(limit));
                    }
                }
            }
        }
    }

    /// What was said so far.
    pub(super) fn words(&self) -> Words {
        self.collected.words()
    }

    /// What was said by a connection that has ended.
    pub(super) async fn last_words(&mut self) -> Words {
        self.collected.settle(Duration::from_secs(1)).await;
        self.words()
    }

    /// Ends the connection, and waits.
    #[cfg(test)]
    pub(super) async fn close(mut self) {
        self.hold = None;
        if tokio::time::timeout(ENDS, self.connection.wait()).await.is_err() {
            let _ = self.connection.kill().await;
        }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let has_ended = matches!(self.connection.try_wait(), Ok(Some(_)));
        if let Some(hold) = self.hold.take().filter(|_| has_ended) {
            // Its pid may be given to another process from now on. Who would kill it may be gone as well.
            let _ = rustix::io::write(hold, command::HAS_ENDED);
        }
    }
}

fn spawn(
    mut command: Command,
    options: &SshOptions,
    notes: &Notes,
) -> io::Result<(Child, OwnedFd, Collected)> {
    // Not killed on drop: ssh must be able to restore the terminal if it is asking. It ends with its input.
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let on_terminal = options.terminal && !options.batch;
    let seen = match on_terminal.then(terminal) {
        Some(Ok((theirs, ours))) => {
            command.stderr(theirs);
            Some(ours)
        }
        _ => {
            command.stderr(Stdio::piped());
            None
        }
    };
    let mut connection = command.spawn()?;
    // The command holds the slave of the pseudo-terminal: while it does, the end of ssh cannot be noticed.
    drop(command);
    let missing = || io::Error::other("a pipe is missing");
    let hold = connection.stdin.take().ok_or_else(missing)?.into_owned_fd()?;
    let log = Some(connection.stdout.take().ok_or_else(missing)?);
    let collected = match (seen, connection.stderr.take()) {
        (Some(ours), _) => Collected::start(ours, log, notes),
        (None, Some(pipe)) => Collected::start(pipe, log, notes),
        (None, None) => return Err(missing()),
    };
    Ok((connection, hold, collected))
}
