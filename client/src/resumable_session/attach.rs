//! Attaching the session to a connection.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use jq_common::{
    codec::{self, FrameError},
    protocol::{
        capabilities::Capabilities,
        limits,
        session::{Attach, AttachReply, Entry},
    },
    session::{control as frames, offers::Carrier},
};
use quinn::{Connection, VarInt};
use tokio::time::timeout;

use super::{Agent, Session, control::ControlStream};

/// How long an attach waits for another one at most.
const TURN: Duration = Duration::from_millis(400);

/// Generation of the first attach: the agent does not know the session yet, so its table is empty.
const FIRST: u64 = 1;

/// A connection to which the agent has attached the session. To be [installed](Session::install).
pub struct Attached {
    /// The connection.
    pub connection: Connection,
    generation: u64,
    agent: Agent,
    table: HashMap<u64, Entry>,
    control: ControlStream,
}

/// Why an attach failed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The connection was lost, or the agent sent invalid data.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A newer connection of this session is attached.
    #[error("another connection carries the session")]
    Stale,
    /// The agent refused it.
    #[error("the agent is shutting down, or has too many sessions")]
    Busy,
    /// The agent is newer than this client.
    #[error("the agent refuses for a reason that this version does not know: a newer jq-client may know it")]
    Unknown,
}

/// What a new connection means for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The session began.
    Began,
    /// The session continues.
    Resumed,
    /// The agent does not know the session any more: its streams were reset.
    Lost {
        /// Number of streams.
        streams: usize,
        /// The agent was restarted; else it discarded the session.
        other_agent: bool,
    },
}

impl Session {
    /// Attaches the session to `connection` at the agent, within `deadline`. The previous connection carries the session
    /// until then.
    ///
    /// # Errors
    /// An [`AttachError`]. As far as the client can know, the previous connection still carries the session.
    pub async fn attach(&self, connection: Connection, deadline: Duration) -> Result<Attached, AttachError> {
        // One at a time, so that two working paths do not fence each other. An attach over a dead path must not block the
        // next one for long.
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
            // Control messages free memory and streams at both ends: they have priority over data.
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

    /// Whether `attached` is newer than the installed connection.
    #[must_use]
    pub(crate) fn is_newer(&self, attached: &Attached) -> bool {
        attached.generation > self.streams.generation()
    }

    /// Moves all streams to the connection. None if a newer connection is installed already.
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

/// Offers streams on the connection of the first attach before the agent has answered, which saves a round trip. Dropped
/// without an answer, it closes the connection, and the streams wait for the next one.
struct Early<'a> {
    session: &'a Session,
    /// None after the agent has answered.
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
            // Its streams would keep it open.
            connection.close(VarInt::from_u32(0), b"");
            self.session
                .carrier
                .send_if_modified(|carrier| carrier.take_if(|carrier| carrier.generation == FIRST).is_some());
        }
    }
}
