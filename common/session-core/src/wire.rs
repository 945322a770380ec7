//! What the two ends of a session tell each other about a stream.

use serde::{Deserialize, Serialize};

/// A logical stream within a session: given out by the client in rising order and never reused.
pub type StreamId = u64;

/// What one end knows of a stream: a row of the table that it sends when an attachment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which stream.
    pub stream: StreamId,
    /// Bytes from the peer that the socket at this end took.
    pub delivered: u64,
    /// Bytes from the peer that arrived, at least `delivered`: the peer sends from there.
    pub received: u64,
    /// The end of the peer's data was passed on as well.
    pub ended: bool,
    /// The stream was reset at this end, with this code.
    pub reset: Option<u32>,
}

/// Cumulative acknowledgement of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamAck {
    /// Which stream.
    pub stream: StreamId,
    /// Bytes that the socket at the acknowledging end took, from the stream's beginning.
    pub delivered: u64,
    /// The end of the data was passed on as well.
    pub ended: bool,
}
