//! What every task of the role needs.

use std::sync::{Arc, atomic::AtomicBool};

use jq_common::{
    identity::{AllowedClients, Identity},
    quic::AgentSettings,
};
use tokio::sync::{Semaphore, mpsc};

use super::{context::Context, sessions::Sessions, upgrade::Upgrade};

/// What every task of the role needs.
pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) allowed: AllowedClients,
    pub(super) reset_secret: [u8; 32],
    pub(super) quic: AgentSettings,
    /// Permits to open a pipe of packets.
    pub(super) pipes: Arc<Semaphore>,
    /// What the sessions share.
    pub(super) context: Arc<Context>,
    pub(super) sessions: Sessions,
    pub(super) upgrades: mpsc::Sender<Upgrade>,
    /// An upgrade has failed: there is no other.
    pub(super) stays: AtomicBool,
    pub(super) port: u16,
}
