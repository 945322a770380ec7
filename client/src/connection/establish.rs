//! The first connection of a session: with the resume ticket, else over ssh.

use std::{sync::Arc, time::Duration};

use jq_common::identity::Identity;
use tokio::time::timeout;

use super::{
    bootstrap::{self, Bootstrapper, Here, Interaction, Reached, Ssh},
    paths::{Path, PathError},
    race::{self, Carried, KnownAgent, OVER_SSH, SearchError, Searcher},
    resume_ticket::TicketStore,
    route::{PathChoice, Route},
};
use crate::{
    error::{Failure, Kind},
    reporter::Reporter,
    resumable_session::Session,
    state::Folders,
};

/// How long the resume ticket is tried before ssh is used.
const RECALL: Duration = Duration::from_millis(1500);

/// How long the paths from the bootstrap are tried.
const FIRST: Duration = Duration::from_secs(8);

impl From<&Reached> for KnownAgent {
    fn from(reached: &Reached) -> Self {
        Self {
            agent: reached.agent,
            paths: reached.candidates.clone(),
        }
    }
}

/// The first connection.
pub(crate) struct Found {
    /// Searches for further connections to the same agent.
    pub(crate) searcher: Searcher,
    /// The agent and its paths.
    pub(crate) known: KnownAgent,
    /// The connection.
    pub(crate) carried: Carried,
    /// The ssh connection that it uses, if it does.
    pub(crate) ssh: Option<Ssh>,
}

/// The client side of a connection.
pub(crate) struct Client<'a> {
    /// The session to connect.
    pub(crate) session: Arc<Session>,
    /// The session's name.
    pub(crate) name: &'a str,
    /// Folders for files and sockets.
    pub(crate) folders: &'a Folders,
    /// How long the agent keeps running without a client.
    pub(crate) linger: Duration,
    /// Whether standard error is a terminal.
    pub(crate) terminal: bool,
}

/// A connection, and what is needed to find the next one.
pub(crate) struct Established {
    pub(crate) found: Found,
    pub(crate) bootstrapper: Arc<Bootstrapper>,
    pub(crate) tickets: TicketStore,
}

/// Connects to the agent of the resume ticket, or else bootstraps over ssh.
///
/// # Errors
/// As [`Bootstrapper::reach`], or when no path leads to the agent.
pub(crate) async fn establish(
    client: Client<'_>,
    route: &Route,
    reporter: Arc<dyn Reporter>,
) -> Result<Established, Failure> {
    let tickets = TicketStore::open(client.folders, client.name, bootstrap::fingerprint(route)?);
    let (identity, known) = match tickets.load() {
        Some((identity, known)) => (identity, Some(known)),
        None => {
            let identity = Identity::generate()
                .map_err(|error| Failure::new(Kind::Local, "cannot make a certificate").because(error))?;
            (identity, None)
        }
    };
    let admitted = identity.fingerprint();
    let here = Here {
        runtime_dir: client.folders.runtime.clone(),
        terminal: client.terminal,
    };
    let bootstrapper = Bootstrapper::new(route.clone(), here, admitted, client.linger, reporter)?;
    let searcher = searcher(client.session, Arc::new(identity));
    let recalled = match known {
        Some(known) => recall(&searcher, known).await,
        None => None,
    };
    let found = match recalled {
        Some(found) => found,
        None => reach(&searcher, &bootstrapper, route).await?,
    };
    Ok(Established {
        found,
        bootstrapper: Arc::new(bootstrapper),
        tickets,
    })
}

/// Connects to the agent of the resume ticket. None if it does not answer.
async fn recall(searcher: &Searcher, known: KnownAgent) -> Option<Found> {
    let searcher = Searcher {
        agent: known.agent,
        ..searcher.clone()
    };
    let race = timeout(RECALL, searcher.race(known.paths.clone(), RECALL)).await;
    match race {
        Ok(Ok(carried)) => Some(Found {
            searcher,
            known,
            carried,
            ssh: None,
        }),
        Ok(Err(failed)) => {
            tracing::info!(?failed, "the resume ticket does not work");
            None
        }
        Err(_) => None,
    }
}

/// Bootstraps over ssh, and connects over the first path that works: UDP or the ssh channel.
async fn reach(searcher: &Searcher, bootstrapper: &Bootstrapper, route: &Route) -> Result<Found, Failure> {
    let host = route.target.to_string();
    let reporter = bootstrapper.reporter();
    let mut reached = bootstrapper.reach(Interaction::Attended).await?;
    for note in &reached.notes {
        reporter.note(note);
    }
    let known = KnownAgent::from(&reached);
    reporter.step(&host, &format!("opening the connection, {}", words(&known.paths)));
    let searcher = Searcher {
        agent: known.agent,
        ..searcher.clone()
    };
    let pipe = reached.pipe.take();
    let udp = searcher.race(known.paths.clone(), FIRST);
    let by_pipe = {
        let searcher = searcher.clone();
        let head_start = if known.paths.is_empty() {
            Duration::ZERO
        } else {
            OVER_SSH
        };
        async move {
            match pipe {
                Some(pipe) => searcher
                    .by_pipe(pipe, head_start)
                    .await
                    .map_err(|error| vec![(Path::Ssh, error)]),
                None => Err(Vec::new()),
            }
        }
    };
    let carried = either(udp, by_pipe).await;
    reporter.done(&host);
    match carried {
        Ok(carried) => {
            let ssh = (carried.path == Path::Ssh).then_some(reached.ssh);
            Ok(Found {
                searcher,
                known,
                carried,
                ssh,
            })
        }
        Err(failed) => Err(no_path(&host, route.path, &failed)),
    }
}

/// Names of the paths, each once.
fn words(paths: &[Path]) -> String {
    let mut words: Vec<_> = paths.iter().map(ToString::to_string).collect();
    words.dedup();
    if words.is_empty() {
        return "ssh".to_owned();
    }
    words.join(" or ")
}

type Failed = Vec<(Path, SearchError)>;

/// The result of the future that succeeds first.
async fn either<T>(
    a: impl Future<Output = Result<T, Failed>>,
    b: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    let (mut a, mut b) = (Box::pin(a), Box::pin(b));
    let (mut failed, rest) = tokio::select! {
        a = &mut a => match a {
            Ok(found) => return Ok(found),
            Err(failed) => (failed, b.await),
        },
        b = &mut b => match b {
            Ok(found) => return Ok(found),
            Err(failed) => (failed, a.await),
        },
    };
    rest.map_err(|more| {
        failed.extend(more);
        failed
    })
}

fn no_path(host: &str, wanted: PathChoice, failed: &[(Path, SearchError)]) -> Failure {
    let why = failed
        .iter()
        .map(|(path, error)| format!("{path}: {error}"))
        .collect::<Vec<_>>()
        .join("\n");
    if failed.iter().any(|(_, error)| error.is_version()) {
        return version(host).because(why);
    }
    let is_silent = |error: &SearchError| {
        matches!(
            error,
            SearchError::Path(
                PathError::Silence(..)
                    | PathError::RelaySilent(_)
                    | PathError::Nobody(_)
                    | PathError::Socket(_)
            )
        )
    };
    if wanted == PathChoice::Ssh || !failed.iter().all(|(_, error)| is_silent(error)) {
        return Failure::new(Kind::AgentFailed, "cannot connect to the agent")
            .on(host)
            .because(why)
            .hint("try again; if it persists, another program answers at the agent's port");
    }
    let relayed = failed.iter().find_map(|(path, _)| match path {
        Path::Relay { hops, .. } => hops.first().map(|hop| hop.host.as_str()),
        Path::Direct(_) | Path::Ssh => None,
    });
    let between = match relayed {
        Some(gateway) => format!("between here and {gateway} or between {gateway} and {host}"),
        None => format!("between here and {host}"),
    };
    Failure::new(Kind::UdpBlocked, "ssh works, but UDP does not reach the agent")
        .on(host)
        .because(why)
        .hint(format!(
            "UDP is blocked {between}. Omit --path to connect over ssh, or ask to open UDP ports 60000 to 61000 (those \
             of mosh) in both directions."
        ))
}

/// A searcher that does not know the agent yet.
fn searcher(session: Arc<Session>, identity: Arc<Identity>) -> Searcher {
    Searcher {
        session,
        agent: identity.fingerprint(),
        identity,
        round_trip: Duration::from_millis(50),
        tries: race::tries(),
    }
}

/// The agent and this client have no protocol version in common.
pub(crate) fn version(host: &str) -> Failure {
    Failure::new(Kind::AgentFailed, "the agent on the host has another version")
        .on(host)
        .hint("use the same jq-client everywhere, or end the other sessions and connect again")
}
