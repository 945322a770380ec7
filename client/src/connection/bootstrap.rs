//! From a target to an agent that lets this client in, and the ways that may lead to it. The only part of `connect` that
//! uses ssh. It can be gone through again at any time, also in the background.

mod addresses;
mod relays;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jq_common::{
    bootstrap::{AdmitReply, AdmitRequest, MOST_ADDRESSES},
    identity::Fingerprint,
};
use tokio_util::sync::CancellationToken;

use self::{
    addresses::{is_a_hosts, resolved},
    relays::Relays,
};
use super::paths::Path;
use crate::{
    agent::{Bundle, Pipe, Prepared, Role, prepare},
    cli,
    error::{Failure, Kind},
    output::Printer,
    reporter::Reporter,
    settings::{ConnectSettings, Environment, Target},
    ssh::{Connection, Destination, Local, RemoteHost, SshOptions},
    state::make_private,
};

/// Whether somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interaction {
    /// ssh may ask on the terminal, and the steps are shown.
    Attended,
    /// Nobody is asked, nothing is shown and the terminal is left alone. Where somebody would have to be asked, it fails
    /// with a failure that [`Failure::needs_user`].
    Background,
}

/// An agent that waits for this client.
pub(crate) struct Reached {
    /// Its certificate.
    pub(crate) agent: Fingerprint,
    /// Ways to it by UDP, the best first. Those through relays share their pairs: of two at once the later takes them.
    pub(crate) candidates: Vec<Path>,
    /// The ssh channel as a way to it, for as long as `ssh` is kept; none for this machine, or where the user wants none.
    pub(crate) pipe: Option<Pipe>,
    /// The ssh connections by which it was reached.
    pub(crate) ssh: Ssh,
    /// Why ways are missing that there might have been, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// ssh connections, or none. Dropped, they end without being waited for.
pub(crate) struct Ssh {
    _connection: Option<Connection>,
}

/// Knows how to get to one target.
pub(crate) struct Bootstrapper {
    settings: ConnectSettings,
    runtime_dir: PathBuf,
    terminal: bool,
    bundle: Bundle,
    request: AdmitRequest,
    printer: Printer,
}

/// What the ways to a target depend on, as a text that is the same as long as they are.
///
/// # Errors
/// When there is no agent to put on hosts.
pub(crate) fn circumstances(settings: &ConnectSettings) -> Result<String, Failure> {
    let executable = std::env::current_exe().ok();
    let bundle = Bundle::find(settings.agent_dir.as_deref(), executable.as_deref())?;
    let agents: Vec<_> = bundle
        .agents()
        .iter()
        .map(|agent| agent.sha256().to_owned())
        .collect();
    let ConnectSettings {
        target,
        ssh_config,
        jump,
        ssh_options,
        path,
        ..
    } = settings;
    Ok(format!(
        "{target:?} {ssh_config:?} {jump:?} {ssh_options:?} {path:?} {agents:?}"
    ))
}

/// What the agent on the target said.
struct Served {
    reply: AdmitReply,
    pipe: Option<Pipe>,
}

impl Bootstrapper {
    /// For the target of `settings`, whose agent is to let in whoever has the certificate `client`.
    ///
    /// # Errors
    /// When there is no agent to put on hosts.
    pub(crate) fn new(
        settings: &ConnectSettings,
        environment: &Environment,
        client: Fingerprint,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let executable = std::env::current_exe().ok();
        Ok(Self {
            settings: settings.clone(),
            runtime_dir: environment.runtime_dir.clone(),
            terminal: environment.draws,
            bundle: Bundle::find(settings.agent_dir.as_deref(), executable.as_deref())?,
            request: AdmitRequest {
                client,
                linger_s: settings.linger.as_secs(),
            },
            printer: printer.clone(),
        })
    }

    /// Where what concerns the user is said.
    pub(crate) fn printer(&self) -> &Printer {
        &self.printer
    }

    /// Starts the agent on the target unless it runs, and a relay on each jump host where packets may go that way. Each
    /// call makes ssh connections and relayed pairs of its own, so that whatever goes through earlier ones goes on.
    /// Dropping the future ends what it began here.
    ///
    /// # Errors
    /// When ssh does not get there, the agent does not start, or the one way that the user wants does not exist.
    pub(crate) async fn reach(&self, interaction: Interaction) -> Result<Reached, Failure> {
        let reporter: Arc<dyn Reporter> = match interaction {
            Interaction::Attended => Arc::new(self.printer.clone()),
            Interaction::Background => Arc::new(Silent),
        };
        match &self.settings.target {
            Target::Local => self.reach_this_machine(&*reporter).await,
            Target::Ssh(target) => {
                let connection = self.log_in(target, interaction, &reporter).await?;
                let mut notes = Vec::new();
                let (served, candidates) = self
                    .start(&connection, interaction, &*reporter, &mut notes)
                    .await?;
                Ok(Reached {
                    agent: served.reply.agent,
                    candidates,
                    pipe: served.pipe,
                    ssh: Ssh {
                        _connection: Some(connection),
                    },
                    notes,
                })
            }
        }
    }

    async fn reach_this_machine(&self, reporter: &dyn Reporter) -> Result<Reached, Failure> {
        let missing = match self.settings.path {
            cli::Path::Ssh => Some("there is no ssh connection to this machine"),
            cli::Path::Relay => Some("there is no host to relay to this machine"),
            cli::Path::Auto | cli::Path::Direct => None,
        };
        if let Some(missing) = missing {
            return Err(Failure::new(Kind::Usage, missing).hint("leave --path away"));
        }
        let host = Local::new();
        let prepared = prepare(&host, Role::Serve, &self.bundle, reporter).await?;
        let reply = prepared.serve(self.request.clone()).await?;
        reporter.done(host.name());
        Ok(Reached {
            agent: reply.agent,
            candidates: vec![Path::Direct((Ipv4Addr::LOCALHOST, reply.port).into())],
            pipe: None,
            ssh: Ssh { _connection: None },
            notes: Vec::new(),
        })
    }

    async fn log_in(
        &self,
        target: &str,
        interaction: Interaction,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<Connection, Failure> {
        let destination = Destination::target(target).map_err(|error| {
            Failure::new(Kind::Usage, format!("`{target}` is no ssh destination")).because(error)
        })?;
        make_private(&self.runtime_dir).map_err(|error| {
            Failure::new(Kind::Local, format!("cannot make {}", self.runtime_dir.display())).because(error)
        })?;
        let options = SshOptions {
            config: self.settings.ssh_config.clone(),
            jump: self.settings.jump.clone(),
            options: self.settings.ssh_options.clone(),
            terminal: self.terminal && interaction == Interaction::Attended,
            batch: interaction == Interaction::Background,
            ..SshOptions::new(&self.runtime_dir)
        };
        Connection::open(&destination, &options, reporter).await
    }

    /// The agent's start and the relays', side by side, and what ways come of them.
    async fn start(
        &self,
        ssh: &Connection,
        interaction: Interaction,
        reporter: &dyn Reporter,
        notes: &mut Vec<String>,
    ) -> Result<(Served, Vec<Path>), Failure> {
        let target = ssh.target();
        let relays = Relays {
            gateways: match self.settings.path {
                cli::Path::Auto | cli::Path::Relay => ssh.gateways(),
                cli::Path::Direct | cli::Path::Ssh => &[],
            },
            required: self.settings.path == cli::Path::Relay,
            grace: match interaction {
                Interaction::Attended => Duration::from_secs(20),
                // Open connections wait.
                Interaction::Background => Duration::from_secs(1),
            },
            bundle: &self.bundle,
            reporter,
        };
        if relays.required && relays.gateways.is_empty() {
            return Err(Failure::new(Kind::Usage, "there is no host to relay")
                .because(format!("{} is reached without a jump host", self.settings.target))
                .hint("leave --path away, or name a jump host with -J"));
        }
        let has_served = CancellationToken::new();
        let serving = async {
            let prepared = prepare(target, Role::Serve, &self.bundle, reporter).await?;
            let served = self.serve(prepared).await?;
            reporter.done(target.name());
            has_served.cancel();
            Ok(served)
        };
        let (served, prepared) = tokio::try_join!(serving, relays.prepare(&has_served))?;
        let mut candidates = self.direct(ssh, &served.reply, notes).await?;
        candidates.extend(relays.announce(prepared, target, &served.reply, notes).await?);
        Ok((served, candidates))
    }

    async fn serve(&self, prepared: Prepared) -> Result<Served, Failure> {
        let request = self.request.clone();
        Ok(match self.settings.path {
            cli::Path::Auto | cli::Path::Ssh => {
                let (reply, pipe) = prepared.carry(request).await?;
                Served {
                    reply,
                    pipe: Some(pipe),
                }
            }
            cli::Path::Direct | cli::Path::Relay => Served {
                reply: prepared.serve(request).await?,
                pipe: None,
            },
        })
    }

    /// Where the agent itself may be reached from here.
    async fn direct(
        &self,
        ssh: &Connection,
        agent: &AdmitReply,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Path>, Failure> {
        let target = ssh.target();
        let wanted = match self.settings.path {
            cli::Path::Relay | cli::Path::Ssh => return Ok(Vec::new()),
            cli::Path::Direct => true,
            cli::Path::Auto => false,
        };
        // Where ssh goes straight to the target, so may packets. Elsewhere its own address may be reachable from here as
        // well (by a VPN), and its name may mean something only to a jump host.
        let straight = ssh.gateways().is_empty();
        let by_name = if straight || wanted {
            resolved(target, agent.port).await
        } else {
            Ok(Vec::new())
        };
        let is_proxied = !straight || target.hop().resolved.proxy_command.is_some();
        let own = agent
            .address
            .filter(|&address| (is_proxied || by_name.is_err()) && is_a_hosts(address))
            .map(|address| SocketAddr::new(address.to_canonical(), agent.port));
        let mut found = match by_name {
            Ok(found) => found,
            Err(failure) if wanted && own.is_none() => return Err(failure),
            Err(failure) => {
                notes.push(failure.to_string());
                Vec::new()
            }
        };
        let others = agent.others.iter().take(MOST_ADDRESSES).copied();
        let others = others
            .filter(|&address| is_a_hosts(address))
            .map(|address| SocketAddr::new(address.to_canonical(), agent.port));
        for address in own.into_iter().chain(others) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        Ok(found.into_iter().map(Path::Direct).collect())
    }
}

/// Nobody hears of the steps.
struct Silent;

impl Reporter for Silent {
    fn step(&self, _: &str, _: &str) {}
    fn done(&self, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: u64) {}
    fn notice(&self, _: &str) {}
    fn prompting(&self, _: bool) {}
}
