//! Asking the agent to carry the session by a connection.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use jq_common::{
    codec::{self, FrameError},
    protocol::{
        capabilities::Capabilities,
        limits,
        session::{Attach, AttachReply, BootId, Entry, Epoch},
    },
    session::control,
};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::time::timeout;

use super::{Carrier, Session};

/// How long an attach waits for another at most.
const TURN: Duration = Duration::from_millis(400);

/// Generation of the session's first attach: the agent cannot know the session yet, so its table is known to be empty.
const FIRST: u64 = 1;

/// A connection that carries the session at the agent, and is to be [installed](Session::install) here.
pub struct Attached {
    /// The connection.
    pub connection: Connection,
    pub(super) generation: u64,
    pub(super) boot: BootId,
    pub(super) epoch: Epoch,
    pub(super) capabilities: Capabilities,
    pub(super) table: HashMap<u64, Entry>,
    pub(super) send: SendStream,
    pub(super) receive: RecvStream,
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
            let _ = send.set_priority(control::CONTROL_PRIORITY);
            codec::write(&mut send, &attach, limits::CONTROL_FRAME).await?;
            let early = (generation == FIRST).then(|| Early::begin(self, &connection));
            match codec::read(&mut receive, limits::CONTROL_FRAME).await? {
                AttachReply::Attached {
                    boot,
                    epoch,
                    capabilities,
                } => {
                    let table = control::read_table(&mut receive).await?;
                    if let Some(early) = early {
                        early.answered();
                    }
                    Ok(Attached {
                        connection: connection.clone(),
                        generation,
                        boot,
                        epoch,
                        capabilities: capabilities.shared(self.announced),
                        table,
                        send,
                        receive,
                    })
                }
                AttachReply::Stale => Err(AttachError::Stale),
                AttachReply::Busy => Err(AttachError::Busy),
                AttachReply::Unknown => Err(AttachError::Unknown),
            }
        };
        timeout(deadline, exchange)
            .await
            .map_err(|_| FrameError::TimedOut(deadline))?
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
