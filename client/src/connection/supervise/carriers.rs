//! The connections of a session: the one that carries it, the next one, and the previous one.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jq_common::protocol::session::Close;
use quinn::{ConnectionError, Endpoint, VarInt};
use tokio::time::timeout;

use crate::{
    connection::{
        bootstrap::Ssh,
        liveness::Liveness,
        paths::Path,
        race::Carried,
        supervisor::{Candidate, ConnectionId, Continuity, DetachReason, Event},
    },
    resumable_session::{ControlStream, Detached, Installed, Session},
    status::Loss,
};

/// How long the agent may take to hear that the session is over.
const LEAVE: Duration = Duration::from_secs(1);

/// The connections of a session.
pub(super) struct Carriers {
    session: Arc<Session>,
    last_id: u64,
    /// The agent has attached the session to it; it is not installed yet.
    offered: Option<Offered>,
    /// Carries the session.
    live: Option<Live>,
    /// Was replaced by the live one, and is not closed yet.
    replaced: Option<Replaced>,
}

struct Offered {
    candidate: Candidate,
    carried: Carried,
    ssh: Option<Ssh>,
}

/// A connection that carries the session.
struct Live {
    id: ConnectionId,
    /// The ssh connection that it uses, if it does.
    ssh: Option<Ssh>,
    path: Path,
    connection: quinn::Connection,
    /// Closed last.
    endpoint: Endpoint,
    liveness: Liveness,
    /// Runs its control stream.
    talk: BoxFuture<'static, Detached>,
    gone: BoxFuture<'static, ()>,
}

/// A connection that another one has replaced.
struct Replaced {
    id: ConnectionId,
    connection: quinn::Connection,
    /// Dropping these would cut off the connection before it is closed.
    _transport: (Option<Ssh>, Endpoint, BoxFuture<'static, ()>),
}

impl From<Live> for Replaced {
    fn from(live: Live) -> Self {
        Self {
            id: live.id,
            connection: live.connection,
            _transport: (live.ssh, live.endpoint, live.gone),
        }
    }
}

impl Carriers {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            last_id: 0,
            offered: None,
            live: None,
            replaced: None,
        }
    }

    /// The path of the live connection.
    pub(super) fn path(&self) -> Option<&Path> {
        self.live.as_ref().map(|live| &live.path)
    }

    /// The round-trip time of the live connection.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.live.as_ref().map(|live| live.connection.rtt())
    }

    /// Keeps a connection until it is installed, with the ssh connection that it uses.
    pub(super) fn offer(&mut self, carried: Carried, ssh: Option<Ssh>) -> Candidate {
        self.last_id += 1;
        let candidate = Candidate {
            id: ConnectionId(self.last_id),
            rank: carried.path.rank(),
        };
        self.offered = Some(Offered {
            candidate,
            carried,
            ssh,
        });
        candidate
    }

    /// Moves all streams to the connection that was offered. If a newer one carries the session, nothing changes.
    pub(super) fn install(&mut self, id: ConnectionId) -> Event {
        let Some(offered) = self.offered.take_if(|offered| offered.candidate.id == id) else {
            return Event::NotInstalled;
        };
        let attached = offered.carried.attached;
        let connection = attached.connection.clone();
        let Some((installed, control)) = self.session.install(attached) else {
            connection.close(VarInt::from_u32(0), b"");
            return Event::NotInstalled;
        };
        let live = Live {
            id,
            ssh: offered.ssh,
            path: offered.carried.path,
            liveness: Liveness::new(self.session.clone(), connection.clone()),
            endpoint: offered.carried.endpoint,
            talk: talk(self.session.clone(), connection.clone(), control),
            connection,
            gone: offered.carried.gone,
        };
        tracing::info!(path = %live.path, ?installed, "installed");
        // Its control stream stops: two must not share one queue of frames.
        self.replaced = self.live.replace(live).map(Replaced::from);
        Event::Installed(offered.candidate, continuity(installed))
    }

    /// Closes a connection.
    pub(super) fn close(&mut self, id: ConnectionId) {
        if let Some(replaced) = self.replaced.take_if(|replaced| replaced.id == id) {
            replaced.connection.close(VarInt::from_u32(0), b"");
        }
        self.live.take_if(|live| live.id == id);
    }

    /// The next event of the live connection. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        match &mut self.live {
            Some(live) => live.next().await,
            None => pending().await,
        }
    }

    /// Tells the agent that the session has ended.
    pub(super) async fn leave(self) {
        if let Some(live) = self.live {
            Close::Left.close(&live.connection);
            // Until the agent has acknowledged it, or does not answer.
            let _ = timeout(LEAVE, live.endpoint.wait_idle()).await;
        }
    }
}

impl Live {
    async fn next(&mut self) -> Event {
        tokio::select! {
            detached = &mut self.talk => {
                tracing::info!(?detached);
                self.talk = Box::pin(pending());
                Event::Detached(self.id, reason(&detached))
            }
            is_silent = self.liveness.changed() => {
                if is_silent { Event::Silent(self.id) } else { Event::Heard(self.id) }
            }
            () = &mut self.gone => {
                self.gone = Box::pin(pending());
                Event::Gone(self.id)
            }
        }
    }
}

fn talk(
    session: Arc<Session>,
    connection: quinn::Connection,
    mut control: ControlStream,
) -> BoxFuture<'static, Detached> {
    Box::pin(async move { session.talk(&connection, &mut control).await })
}

fn reason(detached: &Detached) -> DetachReason {
    match detached {
        Detached::Closed(Close::Fenced) => DetachReason::Fenced,
        Detached::Closed(Close::Superseded) => DetachReason::Superseded,
        Detached::Closed(Close::Ending) => DetachReason::AgentEnding,
        Detached::Closed(Close::Left) => DetachReason::GivenUp,
        Detached::Lost(ConnectionError::Reset) => DetachReason::Reset,
        Detached::Restarting | Detached::Closed(_) | Detached::Lost(_) => DetachReason::Lost,
    }
}

fn continuity(installed: Installed) -> Continuity {
    match installed {
        Installed::Began | Installed::Resumed => Continuity::Kept,
        Installed::Lost {
            other_agent: true, ..
        } => Continuity::Broken(Loss::AgentRestarted),
        Installed::Lost {
            other_agent: false, ..
        } => Continuity::Broken(Loss::SessionGivenUp),
    }
}
