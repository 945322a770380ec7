//! State that all tasks of the role share.

use std::sync::{Arc, atomic::AtomicBool};

use jq_common::{
    identity::{AllowedClients, Identity},
    login::Login,
    quic::AgentSettings,
};
use tokio::sync::{Semaphore, mpsc};

use super::{context::Context, sessions::Sessions, upgrade::Upgrade};

/// State that all tasks of the role share.
pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) allowed: AllowedClients,
    pub(super) reset_secret: [u8; 32],
    /// The login that this agent works for.
    pub(super) login: Login,
    pub(super) quic: AgentSettings,
    /// Permits for tunnels.
    pub(super) tunnels: Arc<Semaphore>,
    /// What the sessions share.
    pub(super) context: Arc<Context>,
    pub(super) sessions: Sessions,
    pub(super) upgrades: mpsc::Sender<Upgrade>,
    /// An upgrade has failed: no other is attempted.
    pub(super) upgrade_failed: AtomicBool,
    pub(super) port: u16,
}
