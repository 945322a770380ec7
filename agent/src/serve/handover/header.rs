//! The serialised part of a handover snapshot: all state except descriptors and buffered bytes.

use jq_common::{
    identity::Fingerprint,
    protocol::{
        hex,
        session::{BootId, Epoch, SessionId, StreamId},
        stream::StreamHeader,
        topics::Topic,
        workload::WorkloadSpec,
    },
    session::core::StreamSnapshot,
};
use serde::{Deserialize, Serialize};

/// All state that can be serialised, as JSON: a field may be added with a default.
#[derive(Serialize, Deserialize)]
pub(crate) struct Header {
    #[serde(with = "hex")]
    pub(crate) certificate: Vec<u8>,
    #[serde(with = "hex")]
    pub(crate) key: Vec<u8>,
    #[serde(with = "hex")]
    pub(crate) reset_secret: [u8; 32],
    #[serde(with = "hex")]
    pub(crate) boot: BootId,
    /// How long the agent keeps running without a client, in seconds.
    #[serde(default)]
    pub(crate) linger_s: u64,
    /// The umask of the login that the agent works for; none where that is not known.
    #[serde(default)]
    pub(crate) umask: Option<u32>,
    #[serde(default)]
    pub(crate) allowed: Vec<Fingerprint>,
    #[serde(default)]
    pub(crate) sessions: Vec<SessionState>,
}

/// A session without its connection.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionState {
    pub(crate) client: Fingerprint,
    #[serde(with = "hex")]
    pub(crate) id: SessionId,
    #[serde(with = "hex")]
    pub(crate) epoch: Epoch,
    /// How long the session is kept without a connection, in seconds.
    #[serde(default)]
    pub(crate) keep_s: u64,
    /// Generation of the last connection that carried the session.
    pub(crate) generation: u64,
    /// The workload that is running for the session.
    pub(crate) workload: Option<WorkloadSpec>,
    /// The engine that runs it, for the user.
    #[serde(default)]
    pub(crate) engine: String,
    /// The name of its container.
    pub(crate) container: Option<String>,
    /// What the client subscribed to.
    #[serde(default)]
    pub(crate) topics: Vec<Topic>,
    #[serde(default)]
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
#[serde(rename_all = "snake_case")]
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
