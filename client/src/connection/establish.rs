//! The first connection: by what is remembered, without ssh; else over ssh.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    bootstrap::{Bootstrapper, Interaction, Reached, Ssh},
    paths::{Path, PathError},
    race::{self, Carried, KnownAgent, OVER_SSH, SearchError, Searcher},
};
use crate::{
    cli,
    error::{Failure, Kind},
    output::Printer,
    session::core::Session,
    settings::ConnectSettings,
};

/// How long what is remembered is tried before ssh is asked.
const RECALL: Duration = Duration::from_millis(1500);

/// How long the ways that ssh told of are tried.
const FIRST: Duration = Duration::from_secs(8);

impl From<&Reached> for KnownAgent {
    fn from(reached: &Reached) -> Self {
        Self {
            agent: reached.agent,
            ways: reached.candidates.clone(),
        }
    }
}

/// A connection, and how it was found.
pub(crate) struct Found {
    /// Knows the agent.
    pub(crate) searcher: Searcher,
    /// The agent.
    pub(crate) known: KnownAgent,
    /// The connection.
    pub(crate) carried: Carried,
    /// The ssh connection that it goes through.
    pub(crate) ssh: Option<Ssh>,
}

/// Connects to the agent that is remembered. None when it does not answer, which is no failure.
pub(crate) async fn recall(searcher: &Searcher, known: KnownAgent) -> Option<Found> {
    let searcher = Searcher {
        agent: known.agent,
        ..searcher.clone()
    };
    let race = timeout(RECALL, searcher.race(known.ways.clone(), RECALL)).await;
    match race {
        Ok(Ok(carried)) => Some(Found {
            searcher,
            known,
            carried,
            ssh: None,
        }),
        Ok(Err(failed)) => {
            tracing::info!(?failed, "what is remembered does not lead there");
            None
        }
        Err(_) => None,
    }
}

/// Reaches the host over ssh, and connects by the first way that works, UDP or the ssh channel itself.
pub(crate) async fn reach(
    searcher: &Searcher,
    bootstrapper: &Bootstrapper,
    settings: &ConnectSettings,
    printer: &Printer,
) -> Result<Found, Failure> {
    let host = settings.target.to_string();
    let mut reached = bootstrapper.reach(Interaction::Attended).await?;
    for note in &reached.notes {
        printer.note(note);
    }
    let known = KnownAgent::from(&reached);
    printer.begin(&host, &format!("opening the connection, {}", words(&known.ways)));
    let searcher = Searcher {
        agent: known.agent,
        ..searcher.clone()
    };
    let pipe = reached.pipe.take();
    let udp = searcher.race(known.ways.clone(), FIRST);
    let by_pipe = {
        let searcher = searcher.clone();
        let head_start = if known.ways.is_empty() {
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
    printer.end(&host);
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
        Err(failed) => Err(no_path(&host, settings.path, &failed)),
    }
}

/// The ways as the user is told of them: a host's several addresses are one.
fn words(ways: &[Path]) -> String {
    let mut words: Vec<_> = ways.iter().map(ToString::to_string).collect();
    words.dedup();
    if words.is_empty() {
        return "ssh".to_owned();
    }
    words.join(" or ")
}

type Failed = Vec<(Path, SearchError)>;

/// The first of two that succeeds.
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

fn no_path(host: &str, wanted: cli::Path, failed: &[(Path, SearchError)]) -> Failure {
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
    if wanted == cli::Path::Ssh || !failed.iter().all(|(_, error)| is_silent(error)) {
        return Failure::new(Kind::AgentFailed, "cannot connect to the agent")
            .on(host)
            .because(why)
            .hint("try again; if it stays so, something else answers in the agent's place");
    }
    let relayed = failed.iter().find_map(|(path, _)| match path {
        Path::Relay { hops, .. } => hops.first().map(|hop| hop.host.as_str()),
        Path::Direct(_) | Path::Ssh => None,
    });
    let between = match relayed {
        Some(gateway) => format!("between here and {gateway} or between {gateway} and {host}"),
        None => format!("between here and {host}"),
    };
    Failure::new(Kind::UdpBlocked, "ssh works and UDP does not reach the agent")
        .on(host)
        .because(why)
        .hint(format!(
            "UDP is blocked, {between}. Leave --path away to go over ssh, or ask for UDP ports 60000 to 61000 (those \
             that mosh uses) to be let through both ways."
        ))
}

/// What a searcher is before it knows an agent.
pub(crate) fn searcher(session: Arc<Session>, identity: Arc<jq_common::identity::Identity>) -> Searcher {
    Searcher {
        session,
        agent: identity.fingerprint(),
        identity,
        round_trip: Duration::from_millis(50),
        tries: race::tries(),
    }
}

/// The agent there and this client do not understand each other.
pub(crate) fn version(host: &str) -> Failure {
    Failure::new(Kind::AgentFailed, "the agent there speaks another version")
        .on(host)
        .hint("use the same jq-client everywhere, or end the other sessions and run this again")
}
