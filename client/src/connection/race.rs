//! Searches for a connection: races several paths, repeatedly, until the agent attaches the session over one.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jq_common::{
    identity::{Fingerprint, Identity},
    quic,
};
use quinn::Endpoint;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{
    backoff::Backoff,
    paths::{self, Connected, Path, PathError, Rank},
};
use crate::{
    agent::Pipe,
    resumable_session::{AttachError, Attached, Session},
};

/// Head start of a better kind of path over the next one. A path through relays takes one more round trip anyway.
const HEAD_START: Duration = Duration::from_millis(50);

/// Head start of UDP over ssh for the first connection.
pub(crate) const OVER_SSH: Duration = Duration::from_millis(700);

/// Shortest timeout of an attempt.
const TRY: Duration = Duration::from_millis(1200);

/// Longest pause between attempts while disconnected, so that a link that is back is found within a second.
const PAUSE: Duration = Duration::from_millis(700);

/// First and longest pause between attempts on a better path, while connected.
const BETTER: [(Duration, Duration); 2] = [
    // From ssh: UDP would be much better.
    (Duration::from_secs(3), Duration::from_secs(20)),
    // From a relay: a direct path rarely appears without a change of networks.
    (Duration::from_secs(10), Duration::from_secs(600)),
];

/// An agent, and the paths to it. Holds secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownAgent {
    /// Fingerprint of its certificate.
    pub(crate) agent: Fingerprint,
    /// UDP paths, the best first. The name in files is that of earlier versions.
    #[serde(default, rename = "ways")]
    pub(crate) paths: Vec<Path>,
}

impl KnownAgent {
    /// Takes over what a bootstrap has learned. If the agent is the same, paths of kinds that are missing stay: a relay that
    /// did not answer in time may answer later, and its pair is still valid.
    pub(crate) fn renew(&mut self, told: Self) {
        let before = std::mem::replace(self, told);
        if before.agent == self.agent {
            let ranks = self.ranks();
            let others = before.paths.into_iter();
            self.paths
                .extend(others.filter(|path| !ranks.contains(&path.rank())));
        }
    }

    /// The kinds of its paths.
    pub(crate) fn ranks(&self) -> BTreeSet<Rank> {
        self.paths.iter().map(Path::rank).collect()
    }

    /// The paths that are better than `rank`.
    pub(crate) fn better_than(&self, rank: Rank) -> Vec<Path> {
        let better = self.paths.iter().filter(|path| path.rank() < rank);
        better.cloned().collect()
    }
}

/// A connection over which the agent has attached the session.
pub(crate) struct Carried {
    /// The attachment, to be installed in the session.
    pub(crate) attached: Attached,
    /// Its endpoint, to be closed last.
    pub(crate) endpoint: Endpoint,
    /// The path that it uses.
    pub(crate) path: Path,
    /// Completes when the path is known to be dead.
    pub(crate) gone: BoxFuture<'static, ()>,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    /// The connection failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The attach failed.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

impl SearchError {
    /// Whether the peer speaks another protocol version.
    #[must_use]
    pub(crate) fn is_version(&self) -> bool {
        matches!(self, Self::Path(PathError::Refused(error)) if quic::is_version_mismatch(error))
    }

    /// Whether further attempts are useless: the peer is not the agent, or refuses this client.
    fn is_final(&self) -> bool {
        matches!(self, Self::Path(PathError::Refused(_) | PathError::PipeEnded))
    }
}

/// Searches for connections to one agent.
#[derive(Clone)]
pub(crate) struct Searcher {
    /// The session to attach.
    pub(crate) session: Arc<Session>,
    /// Certificate of this client.
    pub(crate) identity: Arc<Identity>,
    /// Fingerprint of the agent's certificate.
    pub(crate) agent: Fingerprint,
    /// Expected round-trip time; timeouts grow with it.
    pub(crate) round_trip: Duration,
    /// Number of the last attempt; relays require increasing numbers.
    pub(crate) tries: Arc<AtomicU64>,
}

/// A counter for [`Searcher::tries`] that starts above the numbers of all earlier processes: at the time in microseconds.
#[must_use]
pub(crate) fn tries() -> Arc<AtomicU64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let micros = since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0));
    Arc::new(AtomicU64::new(micros))
}

impl Searcher {
    /// Tries all `paths` repeatedly, and returns the first connection.
    ///
    /// # Errors
    /// The cause for each path, when all have failed for good.
    pub(crate) async fn search(self, paths: Vec<Path>) -> Result<Carried, Vec<(Path, SearchError)>> {
        first(paths, |path| self.keep_trying(path)).await
    }

    async fn keep_trying(&self, path: Path) -> Result<Carried, (Path, SearchError)> {
        let mut pause = Backoff::new(PAUSE / 8, PAUSE);
        loop {
            match self.try_once(path.clone(), self.patience()).await {
                Ok(carried) => return Ok(carried),
                Err(error) if error.is_final() => return Err((path, error)),
                Err(error) => tracing::debug!(%path, %error, "attempt failed"),
            }
            sleep(pause.next(chance())).await;
        }
    }

    /// Tries every path once within `deadline`, and returns the first connection.
    ///
    /// # Errors
    /// The cause for each path.
    pub(crate) async fn race(
        &self,
        paths: Vec<Path>,
        deadline: Duration,
    ) -> Result<Carried, Vec<(Path, SearchError)>> {
        let once = |path: Path| async move {
            let tried = self.try_once(path.clone(), deadline).await;
            tried.map_err(|error| (path, error))
        };
        first(paths, once).await
    }

    /// Tries the `paths`, which are better than the `current` one, with pauses until one works.
    pub(crate) async fn improve(self, paths: Vec<Path>, current: Rank) -> Carried {
        let (first, cap) = BETTER[usize::from(current != Rank::Ssh)];
        let mut pause = Backoff::new(first, cap);
        loop {
            sleep(pause.next(u32::MAX / 2 + chance() / 2)).await;
            match self.race(paths.clone(), self.patience() * 2).await {
                Ok(carried) => return carried,
                Err(failed) => {
                    for (path, error) in failed {
                        tracing::debug!(%path, %error, "no better path");
                    }
                }
            }
        }
    }

    /// Connects through an ssh channel, after `head_start`.
    ///
    /// # Errors
    /// Why the attempt failed.
    pub(crate) async fn by_pipe(self, pipe: Pipe, head_start: Duration) -> Result<Carried, SearchError> {
        sleep(head_start).await;
        let deadline = self.patience() * 8;
        let connected = paths::connect_by_pipe(pipe, &self.identity, self.agent, deadline).await?;
        self.attach(connected, deadline).await
    }

    fn patience(&self) -> Duration {
        TRY.max(self.round_trip * 8)
    }

    async fn try_once(&self, path: Path, deadline: Duration) -> Result<Carried, SearchError> {
        let generation = self.tries.fetch_add(1, Ordering::Relaxed) + 1;
        let connected = paths::connect(path, generation, &self.identity, self.agent, deadline).await?;
        self.attach(connected, deadline * 2).await
    }

    async fn attach(&self, connected: Connected, deadline: Duration) -> Result<Carried, SearchError> {
        let Connected {
            connection,
            endpoint,
            path,
            mut gone,
        } = connected;
        let attached = tokio::select! {
            attached = self.session.attach(connection, deadline) => attached?,
            () = &mut gone => return Err(PathError::PipeEnded.into()),
        };
        Ok(Carried {
            attached,
            endpoint,
            path,
            gone,
        })
    }
}

/// Runs `attempt` for each path, and returns the first success or all errors.
async fn first<T: Future<Output = Result<Carried, (Path, SearchError)>>>(
    paths: Vec<Path>,
    attempt: impl Fn(Path) -> T,
) -> Result<Carried, Vec<(Path, SearchError)>> {
    let attempt = &attempt;
    let mut trying: FuturesUnordered<_> = staggered(paths)
        .map(|(head_start, path)| async move {
            sleep(head_start).await;
            attempt(path).await
        })
        .collect();
    let mut failed = Vec::new();
    while let Some(tried) = trying.next().await {
        match tried {
            Ok(carried) => return Ok(carried),
            Err(error) => failed.push(error),
        }
    }
    Err(failed)
}

/// Paths, each with the delay that gives better ones a head start.
fn staggered(paths: Vec<Path>) -> impl Iterator<Item = (Duration, Path)> {
    let best = paths.iter().map(Path::rank).min().unwrap_or(Rank::Direct);
    paths
        .into_iter()
        .map(move |path| (HEAD_START * (path.rank() as u32 - best as u32), path))
}

fn chance() -> u32 {
    // Without random bytes the delay is not spread, which does no harm to a single client.
    u32::from_be_bytes(jq_common::bootstrap::random::<4>().unwrap_or([128; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_ssh_did_not_reach_in_time_is_kept_for_the_same_agent_only() {
        let fingerprint = || Identity::generate().unwrap().fingerprint();
        let (agent, other) = (fingerprint(), fingerprint());
        let direct = |port| Path::Direct(([192, 0, 2, 1], port).into());
        let relay = Path::Relay {
            address: ([192, 0, 2, 2], 60_000).into(),
            hops: Vec::new(),
        };
        let told = |agent| KnownAgent {
            agent,
            paths: vec![direct(2)],
        };
        for (renewed, paths) in [
            (told(agent), vec![direct(2), relay.clone()]),
            (told(other), vec![direct(2)]),
        ] {
            let mut known = KnownAgent {
                agent,
                paths: vec![direct(1), relay.clone()],
            };
            known.renew(renewed);
            assert_eq!(known.paths, paths);
        }
    }

    #[test]
    fn a_path_waits_for_better_ones_only_if_there_are_any() {
        let address = "192.0.2.1:60000".parse().unwrap();
        let direct = Path::Direct(address);
        let relay = Path::Relay {
            address,
            hops: Vec::new(),
        };
        let waits = |paths: &[&Path]| -> Vec<_> {
            let paths = paths.iter().map(|&path| path.clone()).collect();
            staggered(paths).map(|(head_start, _)| head_start).collect()
        };
        assert_eq!(waits(&[&direct, &relay]), [Duration::ZERO, HEAD_START]);
        assert_eq!(waits(&[&relay, &relay]), [Duration::ZERO; 2]);
        assert_eq!(waits(&[&Path::Ssh, &relay]), [HEAD_START, Duration::ZERO]);
        assert!(waits(&[]).is_empty());
    }
}
