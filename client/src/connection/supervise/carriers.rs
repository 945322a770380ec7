//! The connections of a session: the one that carries it, the one that is to come next, and the one before.

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
    /// What the agent carries the session by, and is not installed here yet.
    offered: Option<Offered>,
    live: Option<Live>,
    /// What the live one has replaced, until it is closed.
    replaced: Option<Live>,
}

struct Offered {
    candidate: Candidate,
    carried: Carried,
    ssh: Option<Ssh>,
}

/// A connection that carries the session.
struct Live {
    id: ConnectionId,
    /// What it goes through.
    _ssh: Option<Ssh>,
    path: Path,
    connection: quinn::Connection,
    /// Closed last.
    endpoint: Endpoint,
    liveness: Liveness,
    /// The work on its control stream.
    talk: BoxFuture<'static, Detached>,
    gone: BoxFuture<'static, ()>,
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

    /// The path that packets take.
    pub(super) fn path(&self) -> Option<&Path> {
        self.live.as_ref().map(|live| &live.path)
    }

    /// The round-trip time of the connection.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.live.as_ref().map(|live| live.connection.rtt())
    }

    /// Takes a connection to be installed, with the ssh connection that it goes through.
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

    /// Moves all streams to the connection that was offered.
    pub(super) fn install(&mut self, id: ConnectionId) -> Event {
        let Some(offered) = self.offered.take_if(|offered| offered.candidate.id == id) else {
            return Event::NotInstalled;
        };
        let attached = offered.carried.attached;
        let connection = attached.connection.clone();
        if !self.session.is_newer(&attached) {
            connection.close(VarInt::from_u32(0), b"");
            return Event::NotInstalled;
        }
        if let Some(before) = &mut self.live {
            // Two must not talk at once: what one has taken to tell, the other would not.
            before.talk = Box::pin(pending());
        }
        let Some((installed, control)) = self.session.install(attached) else {
            return Event::NotInstalled;
        };
        let live = Live {
            id,
            _ssh: offered.ssh,
            path: offered.carried.path,
            liveness: Liveness::new(self.session.clone(), connection.clone()),
            endpoint: offered.carried.endpoint,
            talk: talk(self.session.clone(), connection.clone(), control),
            connection,
            gone: offered.carried.gone,
        };
        tracing::info!(path = %live.path, ?installed, "installed");
        self.replaced = self.live.replace(live);
        Event::Installed(offered.candidate, continuity(installed))
    }

    /// Lets a connection go. One that another has replaced may still work, and is closed.
    pub(super) fn close(&mut self, id: ConnectionId) {
        if let Some(replaced) = self.replaced.take_if(|replaced| replaced.id == id) {
            replaced.connection.close(VarInt::from_u32(0), b"");
        }
        self.live.take_if(|live| live.id == id);
    }

    /// What the live connection tells next. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Event {
        match &mut self.live {
            Some(live) => live.next().await,
            None => pending().await,
        }
    }

    /// Tells the agent that the session is over.
    pub(super) async fn leave(self) {
        if let Some(live) = self.live {
            Close::Left.close(&live.connection);
            // Until it is heard, or nobody hears.
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
