//! Connections to all hosts of a chain, each through the previous one.

use std::{process::Stdio, sync::Arc, time::Duration};

use tokio::{task::spawn_blocking, time::timeout};

use super::{
    Destination,
    chain::{Hop, chain},
    command,
    config::Resolved,
    diagnose,
    host::SshHost,
    options::SshOptions,
    shell::{RemoteHost, cannot_start},
    socket::Sockets,
};
use crate::{
    error::{Failure, Kind},
    reporter::Reporter,
};

/// How long the jump hosts may take that are not needed for a connection, because the user has one open.
const BESIDE: Duration = Duration::from_secs(5);

/// Connections to the hosts of a chain. Ours end with this process, however it ends; those of the user stay.
pub(crate) struct Connection {
    hosts: Vec<SshHost>,
    /// Jump hosts that are not connected: a connection of the user's leads past them.
    missing: usize,
}

impl Connection {
    /// Connects to the jump hosts and `target` in order. A master connection that the user has open is used; nothing is
    /// asked for what it reaches. Else ssh may ask the user for the password or code of each host, once.
    ///
    /// # Errors
    /// When ssh is missing or refuses its configuration, or when a connection fails; the failure names the host.
    pub(crate) async fn open(
        target: &Destination,
        options: &SshOptions,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<Self, Failure> {
        let hops = resolve(target, options).await?;
        let chain = Chain {
            target: target.written(),
            sockets: Arc::new(Sockets::create(&options.sockets)?),
            options,
            reporter,
        };
        let already = if options.needs_gateways {
            None
        } else {
            chain.open_already(&hops).await
        };
        let Some((at, theirs)) = already else {
            let hosts = chain.connect(hops, Vec::new()).await?;
            return Ok(Self { hosts, missing: 0 });
        };
        let (before, behind) = (&hops[..at], &hops[at + 1..]);
        let mut hosts = chain.beside(before).await;
        let missing = before.len() - hosts.len();
        if missing > 0 {
            hosts.clear();
        }
        hosts.push(theirs);
        let hosts = chain.connect(behind.to_vec(), hosts).await?;
        Ok(Self { hosts, missing })
    }

    /// The target.
    #[must_use]
    pub(crate) fn target(&self) -> &SshHost {
        &self.hosts[self.hosts.len() - 1]
    }

    /// The jump hosts in the order of connecting; empty if there are none, or if not all are connected.
    #[must_use]
    pub(crate) fn gateways(&self) -> &[SshHost] {
        match self.missing {
            0 => &self.hosts[..self.hosts.len() - 1],
            _ => &[],
        }
    }

    /// Whether the target is reached without a jump host.
    #[must_use]
    pub(crate) fn is_straight(&self) -> bool {
        self.hosts.len() == 1 && self.missing == 0
    }

    /// Whether jump hosts are not connected because a connection of the user's leads past them.
    #[must_use]
    pub(crate) fn passes_gateways(&self) -> bool {
        self.missing > 0
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
        while let Some(mut host) = self.hosts.pop() {
            if let Some(master) = host.master.take() {
                master.close().await;
            }
        }
    }
}

/// What all connections of a chain have in common.
struct Chain<'a> {
    target: &'a str,
    sockets: Arc<Sockets>,
    options: &'a SshOptions,
    reporter: &'a Arc<dyn Reporter>,
}

impl Chain<'_> {
    /// The last host to which the user has a connection open, and its place. None if there is none.
    async fn open_already(&self, hops: &[Hop]) -> Option<(usize, SshHost)> {
        for (at, hop) in hops.iter().enumerate().rev() {
            let is_target = at + 1 == hops.len();
            if let Some(host) = self.of_the_user(hop, is_target).await {
                return Some((at, host));
            }
        }
        None
    }

    async fn of_the_user(&self, hop: &Hop, is_target: bool) -> Option<SshHost> {
        if !hop.resolved.control_path.as_ref()?.exists() {
            return None;
        }
        let name = hop.destination.written();
        self.reporter
            .step(name, "trying the ssh connection that you have open");
        let host = SshHost::of_the_user(hop, &self.sockets, self.options, is_target).await?;
        self.reporter.done(name);
        Some(host)
    }

    /// Connects to `hops` in order, the first one through the last of `hosts`.
    async fn connect(&self, hops: Vec<Hop>, mut hosts: Vec<SshHost>) -> Result<Vec<SshHost>, Failure> {
        let last = hops.len().saturating_sub(1);
        for (at, hop) in hops.into_iter().enumerate() {
            // Else the last one that is open was looked for before.
            let theirs = match self.options.needs_gateways {
                true => self.of_the_user(&hop, at == last).await,
                false => None,
            };
            let host = match theirs {
                Some(theirs) => theirs,
                None => self.log_in(hop, hosts.last()).await?,
            };
            hosts.push(host);
        }
        Ok(hosts)
    }

    async fn log_in(&self, hop: Hop, previous: Option<&SshHost>) -> Result<SshHost, Failure> {
        let doing = match (&hop.resolved.proxy_command, previous) {
            (Some(_), None) => "connecting by its ProxyCommand",
            _ => "connecting",
        };
        self.reporter.step(hop.destination.written(), doing);
        let prompting = Prompting::begin(self.reporter, !self.options.batch);
        let host = self.host(hop, self.options, previous).await?;
        drop(prompting);
        self.reporter.done(host.name());
        Ok(host)
    }

    async fn host(
        &self,
        hop: Hop,
        options: &SshOptions,
        previous: Option<&SshHost>,
    ) -> Result<SshHost, Failure> {
        SshHost::connect(self.target, hop, &self.sockets, options, previous, self.reporter).await
    }

    /// Those of `hops` that can be connected to soon and without asking. The way to the target does not need them, but
    /// relays run there.
    async fn beside(&self, hops: &[Hop]) -> Vec<SshHost> {
        let options = SshOptions {
            batch: true,
            ..self.options.clone()
        };
        let mut hosts = Vec::new();
        let all = async {
            for hop in hops {
                let theirs = SshHost::of_the_user(hop, &self.sockets, &options, false).await;
                let host = match theirs {
                    Some(host) => host,
                    None => self.host(hop.clone(), &options, hosts.last()).await?,
                };
                hosts.push(host);
            }
            Ok::<_, Failure>(())
        };
        if let Ok(Err(failure)) = timeout(BESIDE, all).await {
            tracing::info!(%failure, "a jump host is passed");
        }
        hosts
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

#[cfg(test)]
mod tests;
