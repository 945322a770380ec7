//! The sessions of all clients: which connection carries which, and how long one is kept without a connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jq_common::{
    bootstrap::random,
    identity::Fingerprint,
    protocol::{
        capabilities::Capabilities,
        session::{Attach, BootId, Entry, SessionId},
    },
    session::buffer_budget::{self, BufferBudget},
};
use quinn::Connection;

use super::session::Session;

/// Most sessions at once. To admit another, the one that has been without a connection longest is ended.
const MOST_SESSIONS: usize = 64;

/// Longest time that a session is kept without a connection.
const LONGEST_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

/// The sessions of an agent.
pub(super) struct Sessions {
    boot: BootId,
    memory: Arc<BufferBudget>,
    all: Mutex<HashMap<(Fingerprint, SessionId), Arc<Session>>>,
}

/// The result of an attach.
pub(super) enum AttachResult {
    /// The connection carries the session.
    Attached {
        session: Arc<Session>,
        /// What the agent knows about the session's streams.
        table: Vec<Entry>,
        /// Sessions that are to be ended: those of the client's earlier runs, and the oldest when there are too many.
        ended: Vec<Arc<Session>>,
    },
    /// A connection of this or a higher generation was attached before.
    Stale,
    /// There are too many sessions.
    Busy,
}

impl Sessions {
    pub(super) fn new(boot: BootId) -> Self {
        Self {
            boot,
            memory: BufferBudget::new(buffer_budget::AGENT),
            all: Mutex::default(),
        }
    }

    /// Identifies this run of the agent.
    pub(super) fn boot(&self) -> BootId {
        self.boot
    }

    /// Attaches `connection`, which belongs to `client`, to a session. The connection that carried it is closed.
    pub(super) fn attach(
        &self,
        client: Fingerprint,
        attach: &Attach,
        connection: &Connection,
    ) -> AttachResult {
        if attach.generation == 0 {
            return AttachResult::Stale;
        }
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (client, attach.session);
        let mut ended = Vec::new();
        let session = match all.get(&key) {
            Some(session) => session.clone(),
            None => {
                // A client has one run at a time, so the sessions of its earlier runs are over.
                all.retain(|(owner, _), session| {
                    let stays = *owner != client;
                    if !stays {
                        ended.push(session.clone());
                    }
                    stays
                });
                if all.len() >= MOST_SESSIONS {
                    let Some(oldest) = longest_detached(&all) else {
                        return AttachResult::Busy;
                    };
                    ended.extend(all.remove(&oldest));
                }
                let Ok(epoch) = random() else {
                    return AttachResult::Busy;
                };
                let budget = BufferBudget::within(self.memory.clone(), buffer_budget::SESSION);
                let session = Arc::new(Session::new(client, attach.session, epoch, budget));
                all.insert(key, session.clone());
                session
            }
        };
        let keep = Duration::from_secs(attach.keep_s).min(LONGEST_KEEP);
        match session.attach(attach.generation, keep, connection) {
            Some(table) => {
                let shared = attach.capabilities.shared(Capabilities::OURS);
                session
                    .streams()
                    .allow_compression(shared.has(Capabilities::COMPRESSION));
                AttachResult::Attached {
                    session,
                    table,
                    ended,
                }
            }
            None => AttachResult::Stale,
        }
    }

    /// Adds a session that the predecessor handed over: `restore` creates it with this buffer budget.
    pub(super) fn adopt(&self, restore: impl FnOnce(Arc<BufferBudget>) -> Arc<Session>) -> Arc<Session> {
        let session = restore(BufferBudget::within(self.memory.clone(), buffer_budget::SESSION));
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((session.client(), session.id()), session.clone());
        session
    }

    /// Removes a session that has ended.
    pub(super) fn remove(&self, session: &Arc<Session>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (session.client(), session.id());
        if all.get(&key).is_some_and(|found| Arc::ptr_eq(found, session)) {
            all.remove(&key);
        }
    }

    /// All sessions.
    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }
}

fn longest_detached(
    all: &HashMap<(Fingerprint, SessionId), Arc<Session>>,
) -> Option<(Fingerprint, SessionId)> {
    all.iter()
        .filter_map(|(key, session)| Some((session.detached_since()?, *key)))
        .min_by_key(|(since, _)| *since)
        .map(|(_, key)| key)
}
