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
use super::{
    paths::Path,
    route::{PathChoice, Route, Target},
};
use crate::{
    agent::{Agent, Bundle, Pipe, Prepared, Role, prepare},
    error::{Failure, Kind},
    reporter::{Reporter, Silent},
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

/// Starts the agent on one target.
pub(crate) struct Bootstrapper {
    route: Route,
    runtime_dir: PathBuf,
    terminal: bool,
    bundle: Bundle,
    request: AdmitRequest,
    reporter: Arc<dyn Reporter>,
}

/// What this machine contributes to a bootstrap.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    /// Where control sockets of ssh may be put; private.
    pub(crate) runtime_dir: PathBuf,
    /// Whether standard error is a terminal.
    pub(crate) terminal: bool,
}

/// What the agent on the target said.
struct Served {
    reply: AdmitReply,
    pipe: Option<Pipe>,
}

impl Bootstrapper {
    /// A bootstrapper for the target of `route`. Its agent is asked to admit the client whose certificate is `client`, and
    /// to stay for `linger` after the last client has left.
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

    /// Where events for the user go.
    pub(crate) fn reporter(&self) -> &dyn Reporter {
        &*self.reporter
    }

    /// Starts the agent on the target unless it runs, and a relay on each jump host where packets may go that way. Each
    /// call makes ssh connections and relayed pairs of its own, so that whatever goes through earlier ones goes on.
    /// Dropping the future ends what it began here.
    ///
    /// # Errors
    /// When ssh does not get there, the agent does not start, or the one way that the user wants does not exist.
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
            PathChoice::Ssh => Some("there is no ssh connection to this machine"),
            PathChoice::Relay => Some("there is no host to relay to this machine"),
            PathChoice::Auto | PathChoice::Direct => None,
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
            config: self.route.ssh_config.clone(),
            jump: self.route.jump.clone(),
            options: self.route.ssh_options.clone(),
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
            gateways: match self.route.path {
                PathChoice::Auto | PathChoice::Relay => ssh.gateways(),
                PathChoice::Direct | PathChoice::Ssh => &[],
            },
            required: self.route.path == PathChoice::Relay,
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
                .because(format!("{} is reached without a jump host", self.route.target))
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
        Ok(match self.route.path {
            PathChoice::Auto | PathChoice::Ssh => {
                let (reply, pipe) = prepared.carry(request).await?;
                Served {
                    reply,
                    pipe: Some(pipe),
                }
            }
            PathChoice::Direct | PathChoice::Relay => Served {
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
        let wanted = match self.route.path {
            PathChoice::Relay | PathChoice::Ssh => return Ok(Vec::new()),
            PathChoice::Direct => true,
            PathChoice::Auto => false,
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
