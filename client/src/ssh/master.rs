//! Hosts reached by the system's ssh. The only file that starts it.

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

/// Connections to every host of a chain, each made through the one before. However this process ends, they end.
pub(crate) struct Connection {
    hosts: Vec<SshHost>,
    /// Removed after the last connection that has its socket there.
    _sockets: Sockets,
}

impl Connection {
    /// Connects to `target` and to each host on the way there, in order. ssh may ask its user for each host's password
    /// or code, once.
    ///
    /// # Errors
    /// When ssh is missing or refuses its configuration, and when one of the connections fails: the failure names the
    /// host where.
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

    /// The hosts on the way to the target, the one that this machine connects to first. Empty where that is the target
    /// itself.
    #[must_use]
    pub(crate) fn gateways(&self) -> &[SshHost] {
        &self.hosts[..self.hosts.len() - 1]
    }
}

#[cfg(test)]
impl Connection {
    /// The hosts in the order in which they are reached, the target last. Never empty.
    pub(crate) fn hosts(&self) -> &[SshHost] {
        &self.hosts
    }

    /// Ends all of them, the target's first. Dropping does the same without waiting.
    pub(crate) async fn close(mut self) {
        while let Some(host) = self.hosts.pop() {
            host.close().await;
        }
    }
}

/// ssh may be asking its user, until this is dropped: also where nobody waits for the answer any more.
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

/// The hosts on the way to `target` as ssh's configuration has them, the target last.
///
/// # Errors
/// When ssh is missing, refuses its configuration, or has a chain without an end.
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

/// A host with a connection to it.
pub(crate) struct SshHost {
    hop: Hop,
    by_hand: String,
    program: OsString,
    socket: Socket,
    connection: Child,
    /// Open as long as the connection is to live.
    hold: Option<ChildStdin>,
    complaints: Collected,
}

/// How often it is looked whether a connection is there. Everything waits for that.
const LOOK: Duration = Duration::from_millis(5);

/// How long a connection that asks nobody may take, with its login.
const BATCH: Duration = Duration::from_secs(60);

/// How long a connection may take to end by itself.
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
                        .because(format!("the login was not done within {} s", BATCH.as_secs()));
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
        // Not killed on drop: ssh may be asking, and is to leave the terminal as it was. It ends with its input.
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
        // The command still holds the terminal's other end: as long as it does, ssh's end is not seen.
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

    /// Waits, as long as its user needs for ssh's questions, until the connection is there.
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

    /// The name or address that ssh connects to.
    #[must_use]
    pub(crate) fn hostname(&self) -> &str {
        &self.hop.resolved.hostname
    }

    /// Its place in the chain and what ssh's configuration says about it.
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
