//! The part of a handover snapshot that is serialised: all state but the descriptors and the buffered bytes.

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

/// What can be written down, as JSON: fields may be added with a default.
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
    /// How long the agent stays when nobody is connected, in seconds.
    #[serde(default)]
    pub(crate) linger_s: u64,
    #[serde(default)]
    pub(crate) allowed: Vec<Fingerprint>,
    #[serde(default)]
    pub(crate) sessions: Vec<SessionState>,
}

/// A session without a connection.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionState {
    pub(crate) client: Fingerprint,
    #[serde(with = "hex")]
    pub(crate) id: SessionId,
    #[serde(with = "hex")]
    pub(crate) epoch: Epoch,
    /// How long it is kept without a connection, in seconds.
    #[serde(default)]
    pub(crate) keep_s: u64,
    /// Of the last connection that carried it.
    pub(crate) generation: u64,
    /// The workload that runs for it.
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

/// A stream between two attachments.
#[derive(Serialize, Deserialize)]
pub(crate) struct StreamState {
    pub(crate) id: StreamId,
    pub(crate) core: StreamSnapshot,
    pub(crate) work: WorkState,
}

/// What is left to do for a stream.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
