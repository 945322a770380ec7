//! What the keeper does about each thing that happens.

use std::{future::pending, time::Duration};

use futures_util::future::BoxFuture;
use jq_common::protocol::session::Close;
use quinn::ConnectionError;
use tokio::time::{Instant, sleep};

use super::{Keeper, Live, Task};
use crate::{
    connection::{
        backoff::Attempts,
        bootstrap::{Interaction, Reached},
        establish::version,
        liveness::Liveness,
        paths::Path,
        race::{Carried, KnownAgent, SearchError},
        wakeup::Trigger,
    },
    error::{Failure, Kind},
    session::core::{Detached, Installed},
    status::Loss,
};

/// How long UDP alone is tried before ssh is asked as well.
pub(super) const SSH_AFTER: Duration = Duration::from_millis(300);

/// The same after this machine woke or changed its network, which hardly makes UDP impossible.
const SSH_AFTER_CHANGE: Duration = Duration::from_secs(2);

/// How soon ssh is tried again after it needed the user: the host may have been on its way up.
const LOGIN_AGAIN: Duration = Duration::from_secs(120);

/// How soon ways are tried again that all were refused.
const USELESS_AGAIN: Duration = Duration::from_secs(5);

/// A connection that is lost within this time is no success.
const SHORT_LIFE: Duration = Duration::from_millis(1000);

/// How long the session may take to move to a connection that was just made.
const MOVES: Duration = Duration::from_millis(1000);

/// Head start of UDP, which has been tried for a while, over an ssh channel that is there.
const UDP_AGAIN: Duration = Duration::from_millis(200);

impl Keeper {
    pub(super) fn parted(&mut self, parted: &Detached) -> Result<(), Failure> {
        tracing::info!(?parted, "parted");
        if matches!(parted, Detached::Closed(Close::Fenced))
            && (self.search.is_some() || self.by_pipe.is_some())
        {
            // The agent moves the session to a connection that was just made: its answer is on the way.
            self.live = None;
            self.moving = Some(Instant::now());
            return Ok(());
        }
        let short_lived = self
            .live
            .take()
            .is_some_and(|live| live.since.elapsed() < SHORT_LIFE);
        self.short_lives = if short_lived { self.short_lives + 1 } else { 0 };
        self.begin_outage();
        let ssh_after = match parted {
            Detached::Closed(Close::Superseded) => {
                return Err(Failure::new(
                    Kind::ConnectionLost,
                    "another jq-client has taken this session over",
                )
                .on(&self.host)
                .hint("give this one another name with --name to have both"));
            }
            Detached::Closed(close @ (Close::Ending | Close::Left)) => {
                if self.searcher.session.lose() > 0 {
                    self.lost = Some(match close {
                        Close::Left => Loss::SessionGivenUp,
                        _ => Loss::AgentRestarted,
                    });
                }
                Duration::ZERO
            }
            // Its process is gone: another one answers for it.
            Detached::Lost(ConnectionError::Reset) => Duration::ZERO,
            Detached::Restarting | Detached::Closed(_) | Detached::Lost(_) => SSH_AFTER,
        };
        self.look_for_any(ssh_after);
        Ok(())
    }

    /// The way that the connection takes leads nowhere, as the host or the ssh channel says.
    pub(super) fn gone(&mut self) {
        tracing::info!("the way is gone");
        self.begin_outage();
        match &mut self.live {
            // What says so may be forged: until another connection is found, this one stays.
            Some(live) if live.path.rank() < Path::Ssh.rank() => live.gone = Box::pin(pending()),
            _ => self.live = None,
        }
        self.look_for_any(Duration::ZERO);
    }

    pub(super) fn begin_outage(&mut self) {
        if self.down.is_none() {
            self.lost = None;
        }
        self.down.get_or_insert_with(Instant::now);
    }

    /// Nothing carries the session, and what was about to does not come to do so.
    pub(super) fn look_if_abandoned(&mut self) {
        let is_moving = self.moving.is_some_and(|since| since.elapsed() < MOVES);
        if self.live.is_some() || is_moving {
            return;
        }
        self.begin_outage();
        if !self.urgent {
            self.look_for_any(SSH_AFTER);
        }
    }

    /// Looks for any connection, at once. ssh takes part after a while.
    pub(super) fn look_for_any(&mut self, ssh_after: Duration) {
        if !self.urgent {
            self.urgent = true;
            // Connections that do not last are not to be made in a row.
            let pause = if self.short_lives < 2 {
                Duration::ZERO
            } else {
                SHORT_LIFE * self.short_lives.min(10)
            };
            self.search = self.searching(pause);
        }
        let ssh_after = if self.login_needed { LOGIN_AGAIN } else { ssh_after };
        let now = Instant::now();
        let at = now + ssh_after.max(self.attempts.wait(now.into_std()));
        self.bootstrap_at = Some(self.bootstrap_at.map_or(at, |before| before.min(at)));
    }

    /// Tries all ways that are known, after a pause.
    pub(super) fn searching(&self, pause: Duration) -> Task<Result<Carried, Vec<(Path, SearchError)>>> {
        if self.known.ways.is_empty() {
            return None;
        }
        let (searcher, ways) = (self.searcher.clone(), self.known.ways.clone());
        Some(Box::pin(async move {
            sleep(pause).await;
            searcher.search(ways).await
        }))
    }

    /// The connection works: looks at most for a better one.
    pub(super) fn calm(&mut self) {
        self.urgent = false;
        self.down = None;
        self.moving = None;
        self.login_needed = false;
        if self.bootstrap.take().is_some() && self.is_attended {
            // Its steps were shown.
            self.bootstrapper.printer().abandon();
        }
        self.by_pipe = None;
        self.pending_ssh = None;
        self.bootstrap_at = None;
        self.told_from_ssh = false;
        self.search = self.live.as_ref().and_then(|live| {
            let better: Vec<_> = self
                .known
                .ways
                .iter()
                .filter(|way| way.rank() < live.path.rank())
                .cloned()
                .collect();
            if better.is_empty() {
                return None;
            }
            let (searcher, path) = (self.searcher.clone(), live.path.clone());
            let improve: BoxFuture<'static, _> =
                Box::pin(async move { Ok(searcher.improve(better, &path).await) });
            Some(improve)
        });
    }

    /// Moves the session to a connection.
    pub(super) fn install(&mut self, carried: Carried) {
        let Carried {
            attached,
            endpoint,
            path,
            gone,
        } = carried;
        let connection = attached.connection.clone();
        if !self.session().is_newer(&attached) {
            connection.close(quinn::VarInt::from_u32(0), b"");
            return;
        }
        // Two must not talk at once: what one has taken to tell, the other would not.
        if let Some(before) = self.live.take() {
            drop(before.talk);
            before.connection.close(quinn::VarInt::from_u32(0), b"");
        }
        let Some((installed, mut control)) = self.session().install(attached) else {
            return self.look_for_any(SSH_AFTER);
        };
        tracing::info!(%path, ?installed, "carried");
        if let Installed::Lost { other_agent, .. } = installed {
            self.lost = Some(if other_agent {
                Loss::AgentRestarted
            } else {
                Loss::SessionGivenUp
            });
            self.workload_gone.notify_one();
        }
        let ssh = self.pending_ssh.take().filter(|_| path == Path::Ssh);
        let session = self.session().clone();
        self.searcher.round_trip = connection.rtt();
        self.live = Some(Live {
            since: Instant::now(),
            _ssh: ssh,
            path,
            heart: Liveness::new(session.clone(), connection.clone()),
            endpoint,
            talk: {
                let connection = connection.clone();
                Box::pin(async move { session.talk(&connection, &mut control).await })
            },
            connection,
            gone,
        });
        self.memory.save(&self.searcher.identity, &self.known);
        let outage = self.down.map(|since| since.elapsed());
        self.calm();
        self.tell(outage);
    }

    pub(super) fn nothing_found(&mut self, failed: &[(Path, SearchError)]) -> Result<(), Failure> {
        for (path, error) in failed {
            tracing::info!(%path, %error, "no way");
        }
        // Who says so has not shown who it is, and may be anybody at a port that was the agent's: believed of an agent that
        // ssh has just told of.
        let version_differs = failed.iter().find(|(_, error)| error.is_version());
        if let Some((path, error)) = version_differs.filter(|_| self.told_from_ssh) {
            return Err(version(&self.host).because(format!("{path}: {error}")));
        }
        // Whatever is known is of no use for now. ssh knows more.
        if self.search.is_none() {
            self.search = self.searching(USELESS_AGAIN);
        }
        if self.by_pipe.is_none() {
            self.pending_ssh = None;
        }
        self.look_for_any(Duration::ZERO);
        Ok(())
    }

    pub(super) fn bootstrap(&mut self, interaction: Interaction) {
        self.bootstrap_at = None;
        self.attempts.start(Instant::now().into_std());
        let (bootstrapper, keys) = (self.bootstrapper.clone(), self.notices.keys());
        self.is_attended = interaction == Interaction::Attended;
        self.bootstrap = Some(Box::pin(async move {
            // ssh may ask on the terminal: what is typed is for it.
            let _paused = (interaction == Interaction::Attended).then(|| keys.pause());
            bootstrapper.reach(interaction).await
        }));
    }

    pub(super) fn reached(&mut self, reached: Result<Reached, Failure>) -> Result<(), Failure> {
        self.bootstrap_at = None;
        let reached = match reached {
            Ok(reached) => reached,
            Err(failure) => return self.not_reached(failure),
        };
        self.login_needed = false;
        self.told_from_ssh = true;
        self.attempts.start(Instant::now().into_std());
        let before = std::mem::replace(&mut self.known, KnownAgent::from(&reached));
        if before.agent == self.known.agent {
            // A relay that did not answer in time may yet: its pair is the agent's still.
            let lacks = |way: &Path| self.known.ways.iter().all(|other| other.rank() != way.rank());
            let kept: Vec<_> = before.ways.into_iter().filter(lacks).collect();
            self.known.ways.extend(kept);
        }
        self.searcher.agent = self.known.agent;
        self.watch_ways();
        self.search = self.searching(Duration::ZERO);
        self.pending_ssh = Some(reached.ssh);
        self.by_pipe = reached.pipe.map(|pipe| {
            let by_pipe: BoxFuture<'static, _> = Box::pin(self.searcher.clone().by_pipe(pipe, UDP_AGAIN));
            by_pipe
        });
        self.look_for_any(Attempts::SSH);
        Ok(())
    }

    fn not_reached(&mut self, failure: Failure) -> Result<(), Failure> {
        tracing::info!(%failure, "ssh");
        if failure.kind == Kind::HostKeyChanged {
            // Whoever answers there is not to be tried again and again.
            return Err(failure);
        }
        if self.is_attended {
            self.bootstrapper.printer().abandon();
        }
        if self.live.is_some() && self.down.is_none() {
            // It was not needed after all.
            self.calm();
            return Ok(());
        }
        self.login_needed = failure.needs_user();
        let expected = matches!(
            failure.kind,
            Kind::Unreachable | Kind::UnknownHost | Kind::ConnectionLost | Kind::Interrupted
        );
        let words = failure.to_string();
        if !expected && !self.login_needed && self.said.as_ref() != Some(&words) {
            self.bootstrapper.printer().note(&words);
            self.said = Some(words);
        }
        self.look_for_any(Attempts::SSH);
        Ok(())
    }

    pub(super) fn noticed(&mut self, notice: Trigger) {
        if self.down.is_none() && notice == Trigger::UserAsked {
            return;
        }
        if notice != Trigger::NetworkChanged {
            self.attempts.skip();
        }
        // Whatever is under way goes by the old network, or hangs.
        if !self.is_attended {
            self.bootstrap = None;
        }
        if self.bootstrap.is_none() {
            self.by_pipe = None;
            self.pending_ssh = None;
        }
        match notice {
            Trigger::UserAsked => {
                self.search = self.searching(Duration::ZERO);
                if self.bootstrap.is_none() {
                    let interaction = if self.login_needed {
                        Interaction::Attended
                    } else {
                        Interaction::Background
                    };
                    self.bootstrap(interaction);
                }
            }
            Trigger::Woke { .. } | Trigger::NetworkChanged => {
                self.urgent = false;
                self.bootstrap_at = None;
                // What needed the user on another network may not on this one.
                self.login_needed = false;
                self.look_for_any(SSH_AFTER_CHANGE);
            }
        }
    }

    /// Another process asked how the session is: whoever does that wants it back, but may ask every second.
    pub(super) fn poked(&mut self) {
        if self.down.is_some() && self.search.is_none() {
            self.search = self.searching(Duration::ZERO);
        }
        if self.down.is_some() && self.bootstrap.is_none() && !self.login_needed {
            self.look_for_any(Duration::ZERO);
        }
    }
}
