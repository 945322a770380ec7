//! Master connections to the hosts of a chain. The only file that starts ssh.

use std::{ffi::OsString, io, process::Stdio, sync::Arc, time::Duration};

use tokio::{
    process::{Child, ChildStdin, Command},
    task::spawn_blocking,
    time::{interval, timeout},
};

use super::{
    Destination,
    chain::{Hop, chain},
    command,
    config::Resolved,
    diagnose::{self, Place},
    options::SshOptions,
    shell::{RemoteHost, Shell, cannot_start},
    socket::{Socket, Sockets},
    stderr::{Collected, terminal},
};
use crate::{
    error::{Failure, Kind},
    reporter::Reporter,
};

/// Master connections to all hosts of a chain, each through the previous one. They end with this process, however it ends.
pub(crate) struct Connection {
    hosts: Vec<SshHost>,
    /// Dropped last: the connections have their sockets there.
    _sockets: Sockets,
}

impl Connection {
    /// Connects to the jump hosts and `target` in order. ssh may ask the user for the password or code of each host, once.
    ///
    /// # Errors
    /// When ssh is missing or refuses its configuration, or when a connection fails; the failure names the host.
    pub(crate) async fn open(
        target: &Destination,
        options: &SshOptions,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<Self, Failure> {
        let hops = resolve(target, options).await?;
        let sockets = Sockets::create(&options.sockets)?;
        let mut hosts: Vec<SshHost> = Vec::with_capacity(hops.len());
        for hop in hops {
            let socket = sockets.get(hosts.len());
            reporter.step(hop.destination.written(), "connecting");
            let prompting = Prompting::begin(reporter, !options.batch);
            let host = SshHost::open(target, hop, socket, options, hosts.last(), reporter).await?;
            drop(prompting);
            reporter.done(host.name());
            hosts.push(host);
        }
        Ok(Self {
            hosts,
            _sockets: sockets,
        })
    }

    /// The target.
    #[must_use]
    pub(crate) fn target(&self) -> &SshHost {
        &self.hosts[self.hosts.len() - 1]
    }

    /// The jump hosts in the order of connecting; empty if there are none.
    #[must_use]
    pub(crate) fn gateways(&self) -> &[SshHost] {
        &self.hosts[..self.hosts.len() - 1]
    }
}

#[cfg(test)]
impl Connection {
    /// The jump hosts and the target.
    pub(crate) fn hosts(&self) -> &[SshHost] {
        &self.hosts
    }

    /// Ends the connections, the last one first, and waits. Dropping does the same without waiting.
    pub(crate) async fn close(mut self) {
        while let Some(host) = self.hosts.pop() {
            host.close().await;
        }
    }
}

/// While it lives, ssh may be asking the user. Dropping it reports the end, also when the wait is cancelled.
struct Prompting<'a>(&'a dyn Reporter);

impl<'a> Prompting<'a> {
    fn begin(reporter: &'a Arc<dyn Reporter>, may_ask: bool) -> Self {
        reporter.prompting(may_ask);
        Self(&**reporter)
    }
}

impl Drop for Prompting<'_> {
    fn drop(&mut self) {
        self.0.prompting(false);
    }
}

/// The jump hosts and `target` according to ssh's configuration, in the order of connecting.
///
/// # Errors
/// When ssh is missing or refuses its configuration, or when the chain has a loop.
pub(crate) async fn resolve(target: &Destination, options: &SshOptions) -> Result<Vec<Hop>, Failure> {
    let (target, options) = (target.clone(), options.clone());
    let mut asked = options
        .jump
        .iter()
        .map(|jump| format!("ProxyJump={jump}"))
        .collect::<Vec<_>>();
    asked.extend_from_slice(&options.options);
    spawn_blocking(move || {
        chain(&target, &asked, &mut |host, asked| {
            configuration(&options, asked, host)
        })
    })
    .await
    .map_err(|e| Failure::new(Kind::Local, "cannot read ssh's configuration").because(e))?
}

fn configuration(options: &SshOptions, asked: &[String], host: &Destination) -> Result<Resolved, Failure> {
    let mut ssh = std::process::Command::new(&options.program);
    ssh.args(command::configuration(options, asked, host))
        .stdin(Stdio::null());
    if options.batch {
        let (name, value) = command::NO_WINDOWS;
        ssh.env(name, value);
    }
    let output = ssh
        .output()
        .map_err(|e| cannot_start(&options.program.to_string_lossy(), &e))?;
    let resolved = Resolved::parse(&String::from_utf8_lossy(&output.stdout));
    match resolved {
        Some(resolved) if output.status.success() => Ok(resolved),
        _ => {
            let complaints = String::from_utf8_lossy(&output.stderr);
            let last = complaints.lines().rfind(|line| !line.trim().is_empty());
            Err(diagnose::configuration(last.unwrap_or("`ssh -G` gave no answer")).on(host.written()))
        }
    }
}

/// A host with a master connection.
pub(crate) struct SshHost {
    hop: Hop,
    by_hand: String,
    program: OsString,
    socket: Socket,
    connection: Child,
    /// Standard input of [`command::HELD`]: closing it ends the connection.
    hold: Option<ChildStdin>,
    complaints: Collected,
}

/// Interval of checks for the control socket. Short, because everything waits for it.
const LOOK: Duration = Duration::from_millis(5);

/// Timeout of a connection in batch mode, including the login.
const BATCH: Duration = Duration::from_secs(60);

/// How long a connection may take to end before it is killed.
const ENDS: Duration = Duration::from_secs(2);

impl SshHost {
    async fn open(
        target: &Destination,
        hop: Hop,
        socket: Socket,
        options: &SshOptions,
        previous: Option<&Self>,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<Self, Failure> {
        let mut host = Self::start(hop, socket, options, previous, reporter)?;
        let established = if options.batch {
            match timeout(BATCH, host.established()).await {
                Ok(established) => established,
                Err(_) => {
                    let failure = Failure::new(Kind::Unreachable, "cannot connect")
                        .on(host.name())
                        .because(format!("the login took longer than {} s", BATCH.as_secs()));
                    host.close().await;
                    return Err(failure);
                }
            }
        } else {
            host.established().await
        };
        if let Err(status) = established {
            let lines = {
                host.complaints.settle(Duration::from_secs(1)).await;
                host.complaints.lines().all()
            };
            let said = previous.map(|p| (p.name(), p.complaints.lines().all()));
            let place = Place {
                name: host.name(),
                by_hand: &host.by_hand,
                hostname: &host.hop.resolved.hostname,
                through: said.as_ref().map(|(name, lines)| (*name, lines.as_slice())),
                on_the_way_to: (host.hop.destination != *target).then(|| target.written()),
            };
            return Err(diagnose::connection(place, &lines, status));
        }
        Ok(host)
    }

    fn start(
        hop: Hop,
        socket: Socket,
        options: &SshOptions,
        previous: Option<&Self>,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<Self, Failure> {
        let through = previous.map(|p| (&p.hop, &p.socket));
        let arguments = command::connection(options, &hop, &socket, through).ok_or_else(|| {
            Failure::new(Kind::Local, "cannot quote a path for ssh").because(socket.path().display())
        })?;
        let failed = |e: &io::Error| cannot_start("/bin/sh", e);
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
        // Not killed on drop: ssh must be able to restore the terminal if it is asking. It ends with its input.
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        if options.batch {
            let (name, value) = command::NO_WINDOWS;
            command.env(name, value);
        }
        let seen = if options.terminal && !options.batch {
            terminal().ok()
        } else {
            None
        };
        let seen = match seen {
            Some((theirs, ours)) => {
                command.stderr(theirs);
                Some(ours)
            }
            None => {
                command.stderr(Stdio::piped());
                None
            }
        };
        let mut connection = command.spawn().map_err(|e| failed(&e))?;
        // The command holds the slave of the pseudo-terminal: while it does, the end of ssh cannot be noticed.
        drop(command);
        let hold = connection.stdin.take();
        let complaints = match (seen, connection.stderr.take()) {
            (Some(ours), _) => Collected::start(ours, Some(Arc::clone(reporter))),
            (None, Some(pipe)) => Collected::start(pipe, Some(Arc::clone(reporter))),
            (None, None) => return Err(failed(&io::Error::other("a pipe is missing"))),
        };
        Ok(Self {
            by_hand: hop.destination.to_string(),
            hop,
            program: options.program.clone(),
            socket,
            connection,
            hold,
            complaints,
        })
    }

    /// Waits until the connection is established; without a limit, because the user may have to answer questions.
    async fn established(&mut self) -> Result<(), Option<std::process::ExitStatus>> {
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                status = self.connection.wait() => return Err(status.ok()),
                _ = look.tick() => {
                    if self.socket.path().exists() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Name or address that ssh connects to.
    #[must_use]
    pub(crate) fn hostname(&self) -> &str {
        &self.hop.resolved.hostname
    }

    /// Its destination and settings.
    #[must_use]
    pub(crate) fn hop(&self) -> &Hop {
        &self.hop
    }

    async fn close(mut self) {
        self.hold = None;
        if timeout(ENDS, self.connection.wait()).await.is_err() {
            let _ = self.connection.kill().await;
        }
    }
}

impl RemoteHost for SshHost {
    fn name(&self) -> &str {
        self.hop.destination.written()
    }

    fn shell(&self) -> Result<Shell, Failure> {
        let mut command = Command::new(&self.program);
        command.args(command::shell(&self.hop, &self.socket));
        Shell::start(self.name(), command).map_err(|e| cannot_start(&self.program.to_string_lossy(), &e))
    }
}

#[cfg(test)]
mod tests;
