//! What the two ends of a session say about it: on the control stream of an attachment, and first on each of its streams.
//!
//! An attachment is one QUIC connection. Its first bidirectional stream is the control stream: the client sends
//! [`Attach`], the agent answers with an [`AttachReply`] and then its table, as [`Control::Table`] frames up to one that is
//! the last. Afterwards both send [`Control`] frames as they have something to tell. Every other stream is opened by the
//! client with an [`Open`] frame, from which the agent learns what its table would tell;
//! [blocks](crate::session::block) follow both ways.
//!
//! The table of a session's first attach is known to be empty, so the client may open a stream behind that one before it is
//! answered. The agent takes it once it has granted the attach.

pub use jq_session_core::{Entry, StreamAck, StreamId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    capabilities::Capabilities,
    list::at_most,
    stream::Header,
    topics::{MOST_TOPICS, Topic, Value},
};
use crate::codec::{Frame, FrameError};

/// A session: one run of the client. Random, made anew by each client process. Not a secret.
pub type SessionId = [u8; 16];

/// A run of the agent. Random; another one tells that what the agent knew is gone.
pub type BootId = [u8; 16];

/// A session's beginning at the agent. Random.
pub type Epoch = [u8; 16];

/// Most entries of one [`Control::Table`] or [`Control::Acks`] frame.
pub const MOST_ENTRIES: usize = 1024;

/// Asks that this connection carry the session from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Which session.
    pub session: SessionId,
    /// Rises with every attempt; one that is not higher than the last is refused.
    pub generation: u64,
    /// How long the agent keeps the session while nothing carries it, in seconds.
    pub keep_s: u64,
    /// What the client can do. Whether the agent may deflate bulk is one of them.
    pub capabilities: Capabilities,
}

/// The agent's answer to [`Attach`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttachReply {
    /// This connection carries the session, and no other does any more. The agent's table follows.
    Attached {
        /// The agent's run.
        boot: BootId,
        /// Which beginning of the session at the agent: another one tells that its streams are gone.
        epoch: Epoch,
        /// What the agent can do.
        capabilities: Capabilities,
    },
    /// An attachment with this generation or a higher one was there before. Nothing has changed.
    Stale,
    /// The agent is ending, or holds as many sessions as it may.
    Busy,
    /// Something of a newer agent: it refuses, for a reason that this build does not know.
    #[serde(skip)]
    Unknown,
}

/// A frame on the control stream, after the attach. A new kind goes to the end and needs a
/// [capability](super::capabilities): an older peer ignores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// From the agent, right after [`AttachReply::Attached`]: a part of its table, at most [`MOST_ENTRIES`].
    Table {
        /// Streams that the agent has not forgotten.
        #[serde(deserialize_with = "at_most::<MOST_ENTRIES, _, _>")]
        entries: Vec<Entry>,
        /// No further part follows.
        last: bool,
    },
    /// What was delivered, at most [`MOST_ENTRIES`].
    Acks(#[serde(deserialize_with = "at_most::<MOST_ENTRIES, _, _>")] Vec<StreamAck>),
    /// The stream is reset, both ways.
    Reset {
        /// Which stream.
        stream: StreamId,
        /// Why: a [`ResetCode`](super::stream::ResetCode).
        code: u32,
    },
    /// The reset was heard.
    ResetAck {
        /// Which stream.
        stream: StreamId,
    },
    /// From the client: a stream of the agent's table that it has forgotten, since it was complete.
    Forgotten {
        /// Which stream.
        stream: StreamId,
    },
    /// From the agent: it is about to be replaced by its successor, which takes the session over.
    Restarting,
    /// From the client: these topics, at most [`MOST_TOPICS`], and no others any more. Needs [`Capabilities::SUBSCRIBE`].
    Subscribe {
        /// What it wants to hear of.
        #[serde(deserialize_with = "at_most::<MOST_TOPICS, _, _>")]
        topics: Vec<Topic>,
    },
    /// From the agent: the newest value of a topic that the client subscribed to. Needs [`Capabilities::SUBSCRIBE`].
    Update {
        /// Of what.
        topic: Topic,
        /// How it is now.
        value: Value,
    },
    /// Something of a newer peer, to be ignored.
    #[serde(skip)]
    Unknown,
}

impl AttachReply {
    /// The kinds that this build knows: those before [`AttachReply::Unknown`].
    const KNOWN: u32 = 3;
}

impl Control {
    /// The kinds that this build knows: those before [`Control::Unknown`].
    const KNOWN: u32 = if cfg!(feature = "older-peer") { 6 } else { 8 };
}

/// Decodes an enum of `known` variants; one with a higher number is `unknown`. An enum's bytes begin with the variant's number.
fn decode_known<T: DeserializeOwned>(body: &[u8], known: u32, unknown: T) -> Result<T, FrameError> {
    let (variant, _) = postcard::take_from_bytes::<u32>(body)?;
    if variant >= known {
        return Ok(unknown);
    }
    Ok(postcard::from_bytes(body)?)
}

impl Frame for Attach {
    fn append_to(&self, frame: Vec<u8>) -> Result<Vec<u8>, FrameError> {
        Ok(postcard::to_extend(self, frame)?)
    }

    fn decode(body: &[u8]) -> Result<Self, FrameError> {
        Ok(postcard::from_bytes(body)?)
    }
}

impl Frame for AttachReply {
    fn append_to(&self, frame: Vec<u8>) -> Result<Vec<u8>, FrameError> {
        Ok(postcard::to_extend(self, frame)?)
    }

    fn decode(body: &[u8]) -> Result<Self, FrameError> {
        decode_known(body, Self::KNOWN, Self::Unknown)
    }
}

impl Frame for Control {
    fn append_to(&self, frame: Vec<u8>) -> Result<Vec<u8>, FrameError> {
        Ok(postcard::to_extend(self, frame)?)
    }

    fn decode(body: &[u8]) -> Result<Self, FrameError> {
        decode_known(body, Self::KNOWN, Self::Unknown)
    }
}

impl Frame for Open {
    fn append_to(&self, frame: Vec<u8>) -> Result<Vec<u8>, FrameError> {
        Ok(postcard::to_extend(self, frame)?)
    }

    fn decode(body: &[u8]) -> Result<Self, FrameError> {
        Ok(postcard::from_bytes(body)?)
    }
}

/// The first frame of a stream on an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Which stream.
    pub stream: StreamId,
    /// Offset of the first byte that follows.
    pub from: u64,
    /// Offset from which the agent is to send.
    pub received: u64,
    /// What the stream is for; told until the agent has shown that it knows.
    pub header: Option<Header>,
}

/// Why one side closed a connection, as a QUIC application error code (RFC 9000, section 20.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Close {
    /// Another connection carries the session now.
    Fenced = 1,
    /// The client said that the session is over, or did not come back to it in time.
    Left = 2,
    /// The first frame was missing, late or not to be granted.
    Refused = 3,
    /// Another run of the same client is there: this one's session is over.
    Superseded = 4,
    /// The agent is ending, and its sessions with it.
    Ending = 5,
    /// The agent's successor takes its sessions over.
    Restarting = 6,
}

impl Close {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Fenced,
        Self::Left,
        Self::Refused,
        Self::Superseded,
        Self::Ending,
        Self::Restarting,
    ];

    /// The reason of a connection that the other side closed; none for a code that is not ours.
    #[must_use]
    pub fn from_wire(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|close| *close as u64 == code)
    }

    /// Closes a connection for this reason.
    pub fn close(self, connection: &quinn::Connection) {
        connection.close(quinn::VarInt::from_u32(self as u32), b"");
    }
}
