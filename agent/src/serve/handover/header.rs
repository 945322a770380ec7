//! The serialised part of a handover snapshot: all state except descriptors and buffered bytes.

use jq_common::{
    identity::Fingerprint,
    protocol::{
        session::{BootId, Epoch, SessionId, StreamId},
        stream::StreamHeader,
        workload::WorkloadSpec,
    },
    session::core::StreamSnapshot,
};
use serde::{Deserialize, Serialize};

/// All state that can be serialised.
#[derive(Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) reset_secret: [u8; 32],
    pub(crate) boot: BootId,
    /// How long the agent keeps running without a client, in seconds.
    pub(crate) linger_s: u64,
    pub(crate) allowed: Vec<Fingerprint>,
    pub(crate) sessions: Vec<SessionState>,
}

/// A session without its connection.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionState {
    pub(crate) client: Fingerprint,
    pub(crate) id: SessionId,
    pub(crate) epoch: Epoch,
    /// How long the session is kept without a connection, in seconds.
    pub(crate) keep_s: u64,
    /// Generation of the last connection that carried the session.
    pub(crate) generation: u64,
    /// The workload that is running for the session.
    pub(crate) workload: Option<WorkloadSpec>,
    pub(crate) streams: Vec<StreamState>,
}

/// A stream between two connections.
#[derive(Serialize, Deserialize)]
pub(crate) struct StreamState {
    pub(crate) id: StreamId,
    pub(crate) core: StreamSnapshot,
    pub(crate) work: WorkState,
}

/// What remains to be done for a stream.
#[derive(Serialize, Deserialize)]
pub(crate) enum WorkState {
    /// The request or connection was not started.
    NotStarted(StreamHeader),
    /// A TCP connection is to be proxied.
    Tcp,
    /// A Unix connection is to be proxied.
    Unix,
    /// The stream was reset, and the client is still to be informed.
    Reset,
}
