//! What the keeper does about each thing that happens.

use std::{future::pending, time::Duration};

use futures_util::future::BoxFuture;
use jq_common::protocol::session::Close;
use quinn::ConnectionError;
use tokio::time::Instant;

use super::{Keeper, Live, Task, version};
use crate::{
    commands::connect::reach::{Manner, Reached},
    error::{Failure, Kind},
    notice::{Notice, backoff::Attempts},
    tunnel::{
        paths::Path,
        pulse::Heart,
        search::{Carried, Known, SearchError},
        session::{Installed, Parted},
    },
};

/// How long UDP alone is tried before ssh is asked as well.
pub(super) const SSH_AFTER: Duration = Duration::from_millis(300);

/// The same after this machine woke or changed its network, which hardly makes UDP impossible.
const SSH_AFTER_CHANGE: Duration = Duration::from_secs(2);

/// Head start of UDP, which has been tried for a while, over an ssh channel that is there.
const UDP_AGAIN: Duration = Duration::from_millis(200);

impl Keeper {
    pub(super) fn parted(&mut self, parted: &Parted) -> Result<(), Failure> {
        tracing::info!(?parted, "parted");
        self.live = None;
        self.begin_outage();
        let ssh_after = match parted {
            Parted::Closed(Close::Superseded) => {
                return Err(Failure::new(
                    Kind::ConnectionLost,
                    "another jq-client has taken this session over",
                )
                .on(&self.host)
                .hint("give this one another name with --name to have both"));
            }
            Parted::Closed(Close::Ending | Close::Left) => {
                self.lost_something |= self.searcher.session.lose() > 0;
                Duration::ZERO
            }
            // Its process is gone: another one answers for it.
            Parted::Lost(ConnectionError::Reset) => Duration::ZERO,
            Parted::Restarting | Parted::Closed(_) | Parted::Lost(_) => SSH_AFTER,
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
            self.lost_something = false;
        }
        self.down.get_or_insert_with(Instant::now);
    }

    /// Looks for any connection, at once. ssh takes part after a while.
    pub(super) fn look_for_any(&mut self, ssh_after: Duration) {
        if !self.urgent {
            self.urgent = true;
            self.search = self.searching();
        }
        if !self.login_needed {
            let now = Instant::now();
            let at = now + ssh_after.max(self.attempts.wait(now.into_std()));
            self.bootstrap_at = Some(self.bootstrap_at.map_or(at, |before| before.min(at)));
        }
    }

    pub(super) fn searching(&self) -> Task<Result<Carried, Vec<(Path, SearchError)>>> {
        if self.known.ways.is_empty() {
            return None;
        }
        Some(Box::pin(self.searcher.clone().search(self.known.ways.clone())))
    }

    /// The connection works: looks at most for a better one.
    pub(super) fn calm(&mut self) {
        self.urgent = false;
        self.down = None;
        self.login_needed = false;
        self.bootstrap = None;
        self.by_pipe = None;
        self.bootstrap_at = None;
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
        if let Installed::Lost { .. } = installed {
            self.lost_something = true;
            self.workload_gone.notify_one();
        }
        if path != Path::Ssh {
            self.ssh = None;
        }
        let session = self.session().clone();
        self.searcher.round_trip = connection.rtt();
        self.live = Some(Live {
            path,
            heart: Heart::new(session.clone(), connection.clone()),
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
        if let Some((path, error)) = failed.iter().find(|(_, error)| error.is_version()) {
            return Err(version(&self.host).because(format!("{path}: {error}")));
        }
        // Whatever is known is of no use. ssh knows more.
        self.look_for_any(Duration::ZERO);
        Ok(())
    }

    pub(super) fn bootstrap(&mut self, manner: Manner) {
        self.bootstrap_at = None;
        self.attempts.start(Instant::now().into_std());
        let (reacher, keys) = (self.reacher.clone(), self.notices.keys());
        self.bootstrap = Some(Box::pin(async move {
            // ssh may ask on the terminal: what is typed is for it.
            let _paused = (manner == Manner::Attended).then(|| keys.pause());
            reacher.reach(manner).await
        }));
    }

    pub(super) fn reached(&mut self, reached: Result<Reached, Failure>) {
        match reached {
            Ok(reached) => {
                self.login_needed = false;
                let before = std::mem::replace(&mut self.known, Known::from(&reached));
                if before.agent == self.known.agent {
                    // A relay that did not answer in time may yet: its pair is the agent's still.
                    let lacks = |way: &Path| self.known.ways.iter().all(|other| other.rank() != way.rank());
                    let kept: Vec<_> = before.ways.into_iter().filter(lacks).collect();
                    self.known.ways.extend(kept);
                }
                self.searcher.agent = self.known.agent;
                self.watch_ways();
                self.search = self.searching();
                self.ssh = Some(reached.ssh);
                self.by_pipe = reached.pipe.map(|pipe| {
                    let by_pipe: BoxFuture<'static, _> =
                        Box::pin(self.searcher.clone().by_pipe(pipe, UDP_AGAIN));
                    by_pipe
                });
                self.look_for_any(Attempts::SSH);
            }
            Err(failure) => {
                tracing::info!(%failure, "ssh");
                self.login_needed = failure.needs_user();
                self.bootstrap_at = None;
                self.look_for_any(Attempts::SSH);
            }
        }
    }

    pub(super) fn noticed(&mut self, notice: Notice) {
        if notice != Notice::NetworkChanged {
            self.attempts.skip();
        }
        match notice {
            Notice::UserAsked if !self.urgent => {}
            Notice::UserAsked => {
                self.search = self.searching();
                if self.bootstrap.is_none() {
                    let manner = if self.login_needed {
                        Manner::Attended
                    } else {
                        Manner::Background
                    };
                    self.bootstrap(manner);
                }
            }
            Notice::Woke { .. } | Notice::NetworkChanged => {
                // Whatever was being tried goes by the old network.
                self.urgent = false;
                self.look_for_any(SSH_AFTER_CHANGE);
            }
        }
    }
}
