//! The part of a handover snapshot that is serialised: all state but the descriptors and the buffered bytes.

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

/// What can be written down.
#[derive(Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) reset_secret: [u8; 32],
    pub(crate) boot: BootId,
    /// How long the agent stays when nobody is connected, in seconds.
    pub(crate) linger_s: u64,
    pub(crate) allowed: Vec<Fingerprint>,
    pub(crate) sessions: Vec<SessionState>,
}

/// A session without a connection.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionState {
    pub(crate) client: Fingerprint,
    pub(crate) id: SessionId,
    pub(crate) epoch: Epoch,
    /// How long it is kept without a connection, in seconds.
    pub(crate) keep_s: u64,
    /// Of the last connection that carried it.
    pub(crate) generation: u64,
    /// The workload that runs for it.
    pub(crate) workload: Option<WorkloadSpec>,
    pub(crate) streams: Vec<StreamState>,
}

/// A stream between two attachments.
#[derive(Serialize, Deserialize)]
pub(crate) struct StreamState {
    pub(crate) id: StreamId,
    pub(crate) core: StreamSnapshot,
    pub(crate) work: WorkState,
}

/// What is left to do for a stream.
#[derive(Serialize, Deserialize)]
pub(crate) enum WorkState {
    /// Everything.
    Begin(StreamHeader),
    /// To carry a TCP connection.
    Tcp,
    /// To carry a Unix connection.
    Unix,
    /// Nothing but to tell that it was reset.
    Over,
}
