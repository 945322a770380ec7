//! Finding a connection that carries the session: several ways at once, again and again.

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
    session::core::{AttachError, Attached, Session},
};

/// Head start of a better kind of way over the next, where both are tried. A way through relays takes a round trip more
/// anyway.
const HEAD_START: Duration = Duration::from_millis(50);

/// Head start of UDP over ssh at the beginning.
pub(crate) const OVER_SSH: Duration = Duration::from_millis(700);

/// How long a try takes at least before it is given up for the next.
const TRY: Duration = Duration::from_millis(1200);

/// The longest pause between tries while there is no connection: a link that is back is to be found within a second.
const PAUSE: Duration = Duration::from_millis(700);

/// The same, for a better way than the one that works.
const BETTER: [(Duration, Duration); 2] = [
    // From ssh: UDP is much better.
    (Duration::from_secs(3), Duration::from_secs(20)),
    // From a relay: a direct way hardly appears without a change of networks.
    (Duration::from_secs(10), Duration::from_secs(600)),
];

/// An agent, and the ways to it. Holds secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownAgent {
    /// Its certificate.
    pub(crate) agent: Fingerprint,
    /// By UDP, the best first.
    pub(crate) ways: Vec<Path>,
}

impl KnownAgent {
    /// Takes what ssh has just told. Paths of a kind that it did not tell of stay, if the agent is the same: a relay that
    /// did not answer in time may yet, and its pair is the agent's still.
    pub(crate) fn renew(&mut self, told: Self) {
        let before = std::mem::replace(self, told);
        if before.agent == self.agent {
            let ranks = self.ranks();
            let others = before.ways.into_iter();
            self.ways
                .extend(others.filter(|path| !ranks.contains(&path.rank())));
        }
    }

    /// The kinds of path.
    pub(crate) fn ranks(&self) -> BTreeSet<Rank> {
        self.ways.iter().map(Path::rank).collect()
    }

    /// The paths that are better than those of a rank.
    pub(crate) fn better_than(&self, rank: Rank) -> Vec<Path> {
        let better = self.ways.iter().filter(|path| path.rank() < rank);
        better.cloned().collect()
    }
}

/// A connection that carries the session at the agent.
pub(crate) struct Carried {
    /// To be installed.
    pub(crate) attached: Attached,
    /// Its endpoint; closed last.
    pub(crate) endpoint: Endpoint,
    /// The way its packets take.
    pub(crate) path: Path,
    /// Returns when the way is known to lead nowhere any more.
    pub(crate) gone: BoxFuture<'static, ()>,
}

/// Why a way is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    /// The connection.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The session on it.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

impl SearchError {
    /// The other end speaks another version.
    #[must_use]
    pub(crate) fn is_version(&self) -> bool {
        matches!(self, Self::Path(PathError::Refused(error)) if quic::is_version_mismatch(error))
    }

    /// The other end is not who it should be, or will never take this client.
    fn is_final(&self) -> bool {
        matches!(self, Self::Path(PathError::Refused(_) | PathError::PipeEnded))
    }
}

/// Tries ways to one agent.
#[derive(Clone)]
pub(crate) struct Searcher {
    /// What is to be carried.
    pub(crate) session: Arc<Session>,
    /// Who this client is.
    pub(crate) identity: Arc<Identity>,
    /// Who the agent is.
    pub(crate) agent: Fingerprint,
    /// The round-trip time to expect.
    pub(crate) round_trip: Duration,
    /// Counts the tries through relays.
    pub(crate) tries: Arc<AtomicU64>,
}

/// A counter of tries for [`Searcher::tries`]: its numbers are higher than those of any earlier process.
#[must_use]
pub(crate) fn tries() -> Arc<AtomicU64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let micros = since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0));
    Arc::new(AtomicU64::new(micros))
}

impl Searcher {
    /// The first of `ways` that works, each tried until it does. They are in their order of preference.
    ///
    /// # Errors
    /// Each way with why it is of no use, when there is none that may come to work.
    pub(crate) async fn search(self, ways: Vec<Path>) -> Result<Carried, Vec<(Path, SearchError)>> {
        first(ways, |path| self.keep_trying(path)).await
    }

    async fn keep_trying(&self, path: Path) -> Result<Carried, (Path, SearchError)> {
        let mut pause = Backoff::new(PAUSE / 8, PAUSE);
        loop {
            match self.try_once(path.clone(), self.patience()).await {
                Ok(carried) => return Ok(carried),
                Err(error) if error.is_final() => return Err((path, error)),
                Err(error) => tracing::debug!(%path, %error, "no way"),
            }
            sleep(pause.next(chance())).await;
        }
    }

    /// Every way once, within `deadline`; the first that works.
    ///
    /// # Errors
    /// Each way with why it does not work.
    pub(crate) async fn race(
        &self,
        ways: Vec<Path>,
        deadline: Duration,
    ) -> Result<Carried, Vec<(Path, SearchError)>> {
        let once = |path: Path| async move {
            let tried = self.try_once(path.clone(), deadline).await;
            tried.map_err(|error| (path, error))
        };
        first(ways, once).await
    }

    /// Looks now and then, while something works, whether one of these better `ways` does.
    pub(crate) async fn improve(self, ways: Vec<Path>, current: Rank) -> Carried {
        let (first, cap) = BETTER[usize::from(current != Rank::Ssh)];
        let mut pause = Backoff::new(first, cap);
        loop {
            sleep(pause.next(u32::MAX / 2 + chance() / 2)).await;
            match self.race(ways.clone(), self.patience() * 2).await {
                Ok(carried) => return carried,
                Err(failed) => {
                    for (path, error) in failed {
                        tracing::debug!(%path, %error, "no better way");
                    }
                }
            }
        }
    }

    /// Over ssh, with a head start for UDP.
    ///
    /// # Errors
    /// Why it does not work.
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

/// The first of `ways` that `try_way` finds to work; all of them, each with why not, where none does.
async fn first<T: Future<Output = Result<Carried, (Path, SearchError)>>>(
    ways: Vec<Path>,
    try_way: impl Fn(Path) -> T,
) -> Result<Carried, Vec<(Path, SearchError)>> {
    let try_way = &try_way;
    let mut trying: FuturesUnordered<_> = staggered(ways)
        .map(|(head_start, path)| async move {
            sleep(head_start).await;
            try_way(path).await
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

/// Ways, each with the head start that the better ones among them have.
fn staggered(ways: Vec<Path>) -> impl Iterator<Item = (Duration, Path)> {
    let best = ways.iter().map(Path::rank).min().unwrap_or(Rank::Direct);
    ways.into_iter()
        .map(move |path| (HEAD_START * (path.rank() as u32 - best as u32), path))
}

fn chance() -> u32 {
    // Without randomness all clients wait alike, which is no harm for one.
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
            ways: vec![direct(2)],
        };
        for (renewed, ways) in [
            (told(agent), vec![direct(2), relay.clone()]),
            (told(other), vec![direct(2)]),
        ] {
            let mut known = KnownAgent {
                agent,
                ways: vec![direct(1), relay.clone()],
            };
            known.renew(renewed);
            assert_eq!(known.ways, ways);
        }
    }

    #[test]
    fn a_way_waits_for_better_ones_only_where_there_are_any() {
        let address = "192.0.2.1:60000".parse().unwrap();
        let direct = Path::Direct(address);
        let relay = Path::Relay {
            address,
            hops: Vec::new(),
        };
        let waits = |ways: &[&Path]| -> Vec<_> {
            let ways = ways.iter().map(|&path| path.clone()).collect();
            staggered(ways).map(|(head_start, _)| head_start).collect()
        };
        assert_eq!(waits(&[&direct, &relay]), [Duration::ZERO, HEAD_START]);
        assert_eq!(waits(&[&relay, &relay]), [Duration::ZERO; 2]);
        assert_eq!(waits(&[&Path::Ssh, &relay]), [HEAD_START, Duration::ZERO]);
        assert!(waits(&[]).is_empty());
    }
}
