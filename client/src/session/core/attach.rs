//! Asking the agent to carry the session by a connection.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use jq_common::{
    codec::{self, FrameError},
    protocol::{
        capabilities::Capabilities,
        limits,
        session::{Attach, AttachReply, Entry},
    },
    session::control as frames,
};
use quinn::{Connection, VarInt};
use tokio::time::timeout;

use super::{Agent, Carrier, Session, control::ControlStream};

/// How long an attach waits for another at most.
const TURN: Duration = Duration::from_millis(400);

/// Generation of the session's first attach: the agent cannot know the session yet, so its table is known to be empty.
const FIRST: u64 = 1;

/// A connection that carries the session at the agent, and is to be [installed](Session::install) here.
pub struct Attached {
    /// The connection.
    pub connection: Connection,
    generation: u64,
    agent: Agent,
    table: HashMap<u64, Entry>,
    control: ControlStream,
}

/// Why a connection could not be made to carry the session.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It was lost meanwhile, or the agent said something that cannot be.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Another connection of this session was quicker.
    #[error("another connection carries the session")]
    Stale,
    /// The agent cannot take it.
    #[error("the agent is ending, or has too many sessions")]
    Busy,
    /// The agent is newer than this client.
    #[error("the agent refuses for a reason that this version does not know: a newer jq-client may know it")]
    Unknown,
}

/// What a new carrier means for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The session began.
    Began,
    /// It goes on.
    Resumed,
    /// The agent does not know it any more: so many streams were reset.
    Lost {
        /// How many.
        streams: usize,
        /// The agent was started anew; else it gave the session up.
        other_agent: bool,
    },
}

impl Session {
    /// Has the agent carry the session by `connection` from now on, within `deadline`. Whatever carried it goes on to until
    /// then.
    ///
    /// # Errors
    /// An [`AttachError`]; nothing has changed then, as far as can be known.
    pub async fn attach(&self, connection: Connection, deadline: Duration) -> Result<Attached, AttachError> {
        // One at a time, so that two ways that work do not fence each other. One that is dead must not keep the next.
        let _turn = timeout(TURN, self.attaching.lock()).await;
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let attach = Attach {
            session: self.id,
            generation,
            keep_s: self.keep.as_secs(),
            capabilities: self.announced,
        };
        let exchange = async {
            let (mut send, mut receive) = connection
                .open_bi()
                .await
                .map_err(|error| FrameError::Io(error.into()))?;
            // What it says frees memory and streams at both ends: it goes before any data.
            let _ = send.set_priority(frames::CONTROL_PRIORITY);
            codec::write(&mut send, &attach, limits::CONTROL_FRAME).await?;
            let early = (generation == FIRST).then(|| Early::begin(self, &connection));
            match codec::read(&mut receive, limits::CONTROL_FRAME).await? {
                AttachReply::Attached {
                    boot,
                    epoch,
                    capabilities,
                } => {
                    let table = frames::read_table(&mut receive).await?;
                    if let Some(early) = early {
                        early.answered();
                    }
                    let agent = Agent {
                        boot,
                        epoch,
                        capabilities: capabilities.shared(self.announced),
                    };
                    let control = ControlStream {
                        capabilities: agent.capabilities,
                        send,
                        receive,
                    };
                    Ok((agent, table, control))
                }
                AttachReply::Stale => Err(AttachError::Stale),
                AttachReply::Busy => Err(AttachError::Busy),
                AttachReply::Unknown => Err(AttachError::Unknown),
            }
        };
        let (agent, table, control) = timeout(deadline, exchange)
            .await
            .map_err(|_| FrameError::TimedOut(deadline))??;
        Ok(Attached {
            connection,
            generation,
            agent,
            table,
            control,
        })
    }

    /// Whether no newer connection carries the session already.
    #[must_use]
    pub(crate) fn is_newer(&self, attached: &Attached) -> bool {
        attached.generation > self.streams.generation()
    }

    /// Moves all streams over. None when a newer connection carries the session already.
    pub fn install(&self, attached: Attached) -> Option<(Installed, ControlStream)> {
        let Attached {
            connection,
            generation,
            agent,
            table,
            control,
        } = attached;
        if generation <= self.streams.generation() {
            return None;
        }
        let before = self.agent.send_replace(Some(agent));
        let installed = match before {
            None => Installed::Began,
            Some(before) if before.epoch == agent.epoch => Installed::Resumed,
            Some(before) => {
                self.serving.send_replace(false);
                Installed::Lost {
                    streams: self.streams.lose(),
                    other_agent: before.boot != agent.boot,
                }
            }
        };
        self.streams
            .allow_compression(agent.capabilities.has(Capabilities::COMPRESSION));
        if !self.streams.resume(generation, table) {
            return None;
        }
        self.carrier.send_replace(Some(Carrier {
            generation,
            connection,
        }));
        Some((installed, control))
    }
}

/// Streams are offered on the connection of the session's first attach before the agent has answered that, which saves
/// them a round trip. Dropped, it takes that back: the connection is closed, and they wait for the next.
struct Early<'a> {
    session: &'a Session,
    /// None once the agent has answered.
    connection: Option<Connection>,
}

impl<'a> Early<'a> {
    fn begin(session: &'a Session, connection: &Connection) -> Self {
        session.carrier.send_if_modified(|carrier| {
            let is_first = carrier.is_none();
            if is_first {
                *carrier = Some(Carrier {
                    generation: FIRST,
                    connection: connection.clone(),
                });
            }
            is_first
        });
        Self {
            session,
            connection: Some(connection.clone()),
        }
    }

    fn answered(mut self) {
        self.connection = None;
    }
}

impl Drop for Early<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            // The streams on it would keep it open.
            connection.close(VarInt::from_u32(0), b"");
            self.session
                .carrier
                .send_if_modified(|carrier| carrier.take_if(|carrier| carrier.generation == FIRST).is_some());
        }
    }
}
