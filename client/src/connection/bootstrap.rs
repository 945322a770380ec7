//! Bootstrap over ssh: logs in, starts the agent, which admits this client, and learns the paths to it. Can be repeated at
//! any time, also in the background. The only part of this room that uses ssh.

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
    private_files,
};
use tokio_util::sync::CancellationToken;

use self::{
    addresses::{is_routable, resolved},
    relays::Relays,
};
use super::{
    paths::Path,
    route::{PathChoice, Route, Target},
};
use crate::{
    agent::{Agent, Bundle, Pipe, Prepared, Role, prepare},
    error::{Failure, Kind},
    reporter::{Reporter, Silent},
    ssh::{Connection, Destination, Local, RemoteHost, SshOptions},
};

/// Whether ssh may interact with the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interaction {
    /// ssh may ask questions on the terminal, and steps are reported.
    Attended,
    /// ssh runs in batch mode without the terminal, and nothing is reported. Where ssh would have to ask, the bootstrap
    /// fails with a failure for which [`Failure::needs_user`] holds.
    Background,
}

/// A running agent that admits this client.
pub(crate) struct Reached {
    /// Fingerprint of its certificate.
    pub(crate) agent: Fingerprint,
    /// UDP paths to it, the best first. Paths through relays share their pairs: of two at a time the later one gets them.
    pub(crate) candidates: Vec<Path>,
    /// The ssh channel as a path to it, valid while `ssh` is kept. None for this machine, or if the route excludes it.
    pub(crate) pipe: Option<Pipe>,
    /// The ssh connections to its host.
    pub(crate) ssh: Ssh,
    /// Why possible paths are missing, one sentence each.
    pub(crate) notes: Vec<String>,
}

/// The ssh connections to a host; empty for this machine. Dropping them ends them without waiting.
pub(crate) struct Ssh {
    _connection: Option<Connection>,
}

/// Bootstraps the agent on one target, any number of times.
pub(crate) struct Bootstrapper {
    route: Route,
    runtime_dir: PathBuf,
    terminal: bool,
    bundle: Bundle,
    request: AdmitRequest,
    reporter: Arc<dyn Reporter>,
}

/// Local inputs of a bootstrap.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    /// Private folder for control sockets of ssh.
    pub(crate) runtime_dir: PathBuf,
    /// Whether standard error is a terminal.
    pub(crate) terminal: bool,
}

/// Answer of the agent on the target.
struct Served {
    reply: AdmitReply,
    pipe: Option<Pipe>,
}

impl Bootstrapper {
    /// A bootstrapper for the target of `route`. The agent will admit the client with the certificate `client`, and keep
    /// running for `linger` without a client.
    ///
    /// # Errors
    /// When no agent is bundled or the folder of `route` holds none.
    pub(crate) fn new(
        route: Route,
        here: Here,
        client: Fingerprint,
        linger: Duration,
        reporter: Arc<dyn Reporter>,
    ) -> Result<Self, Failure> {
        let bundle = bundle(&route)?;
        Ok(Self {
            route,
            runtime_dir: here.runtime_dir,
            terminal: here.terminal,
            bundle,
            request: AdmitRequest {
                client,
                linger_s: linger.as_secs(),
            },
            reporter,
        })
    }

    /// The receiver of events for the user.
    pub(crate) fn reporter(&self) -> &dyn Reporter {
        &*self.reporter
    }

    /// Starts the agent on the target unless it runs, and a relay on each jump host if the route allows relays. Each call
    /// makes new ssh connections and new relay pairs, so that traffic over earlier ones is not disturbed. Dropping the
    /// future ends the ssh connections.
    ///
    /// # Errors
    /// When the login fails, the agent does not start, or the only path that the route allows does not exist.
    pub(crate) async fn reach(&self, interaction: Interaction) -> Result<Reached, Failure> {
        let reporter: Arc<dyn Reporter> = match interaction {
            Interaction::Attended => self.reporter.clone(),
            Interaction::Background => Arc::new(Silent),
        };
        match &self.route.target {
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
        let missing = match self.route.path {
            PathChoice::Ssh => Some("this machine is reached without ssh"),
            PathChoice::Relay => Some("this machine is reached without a relay"),
            PathChoice::Auto | PathChoice::Direct => None,
        };
        if let Some(missing) = missing {
            return Err(Failure::new(Kind::Usage, missing).hint("omit --path"));
        }
        let host = Local::new();
        let prepared = prepare(&host, Role::Serve, &self.bundle, reporter).await?;
        let reply = prepared.admit(self.request.clone()).await?;
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
            Failure::new(Kind::Usage, format!("`{target}` is not an ssh destination")).because(error)
        })?;
        private_files::create_folder(&self.runtime_dir).map_err(|error| {
            Failure::new(
                Kind::Local,
                format!("cannot create {}", self.runtime_dir.display()),
            )
            .because(error)
        })?;
        let options = SshOptions {
            config: self.route.ssh_config.clone(),
            jump: self.route.jump.clone(),
            options: self.route.ssh_options.clone(),
            terminal: self.terminal && interaction == Interaction::Attended,
            batch: interaction == Interaction::Background,
            ..SshOptions::new(&self.runtime_dir)
        };
        Connection::open(&destination, &options, reporter).await
    }

    /// Starts the agent and the relays in parallel, and collects the UDP paths.
    async fn start(
        &self,
        ssh: &Connection,
        interaction: Interaction,
        reporter: &dyn Reporter,
        notes: &mut Vec<String>,
    ) -> Result<(Served, Vec<Path>), Failure> {
        let target = ssh.target();
        let relays = Relays {
            gateways: match self.route.path {
                PathChoice::Auto | PathChoice::Relay => ssh.gateways(),
                PathChoice::Direct | PathChoice::Ssh => &[],
            },
            required: self.route.path == PathChoice::Relay,
            grace: match interaction {
                Interaction::Attended => Duration::from_secs(20),
                // Open forwarded connections are waiting.
                Interaction::Background => Duration::from_secs(1),
            },
            bundle: &self.bundle,
            reporter,
        };
        if relays.required && relays.gateways.is_empty() {
            return Err(Failure::new(Kind::Usage, "there is no jump host for a relay")
                .because(format!("{} is reached without a jump host", self.route.target))
                .hint("omit --path, or give a jump host with -J"));
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
        Ok(match self.route.path {
            PathChoice::Auto | PathChoice::Ssh => {
                let (reply, pipe) = prepared.admit_and_tunnel(request).await?;
                Served {
                    reply,
                    pipe: Some(pipe),
                }
            }
            PathChoice::Direct | PathChoice::Relay => Served {
                reply: prepared.admit(request).await?,
                pipe: None,
            },
        })
    }

    /// Direct paths: the addresses at which this machine may reach the agent.
    async fn direct(
        &self,
        ssh: &Connection,
        agent: &AdmitReply,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Path>, Failure> {
        let target = ssh.target();
        let wanted = match self.route.path {
            PathChoice::Relay | PathChoice::Ssh => return Ok(Vec::new()),
            PathChoice::Direct => true,
            PathChoice::Auto => false,
        };
        // Without jump hosts, packets can go where ssh goes. With them, the target's own address may still be reachable (over
        // a VPN), but its name may be known only to a jump host.
        let straight = ssh.gateways().is_empty();
        let by_name = if straight || wanted {
            resolved(target, agent.port).await
        } else {
            Ok(Vec::new())
        };
        let is_proxied = !straight || target.hop().resolved.proxy_command.is_some();
        let own = agent
            .address
            .filter(|&address| (is_proxied || by_name.is_err()) && is_routable(address))
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
            .filter(|&address| is_routable(address))
            .map(|address| SocketAddr::new(address.to_canonical(), agent.port));
        for address in own.into_iter().chain(others) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        Ok(found.into_iter().map(Path::Direct).collect())
    }
}

fn bundle(route: &Route) -> Result<Bundle, Failure> {
    let executable = std::env::current_exe().ok();
    Bundle::find(route.agent_dir.as_deref(), executable.as_deref())
}

/// What the paths to the target of `route` depend on, the agent's binary included, as a text that stays equal for as long
/// as they are valid.
///
/// # Errors
/// As [`Bootstrapper::new`].
pub(crate) fn fingerprint(route: &Route) -> Result<String, Failure> {
    let bundle = bundle(route)?;
    let agents: Vec<_> = bundle.agents().iter().map(Agent::sha256).collect();
    Ok(format!("{} {agents:?}", route.fingerprint()))
}
