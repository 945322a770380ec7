//! The sessions of all clients: which connection carries which, and how long one is kept that none carries.

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

/// Most sessions at once. Of those that nothing carries, the one left longest is ended for a new one.
const MOST: usize = 64;

/// The longest that a session is kept without a connection.
const LONGEST_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

/// The sessions of an agent.
pub(super) struct Sessions {
    boot: BootId,
    memory: Arc<BufferBudget>,
    all: Mutex<HashMap<(Fingerprint, SessionId), Arc<Session>>>,
}

/// What came of a request to carry a session.
pub(super) enum Attached {
    /// It does.
    Carried {
        session: Arc<Session>,
        /// What the agent knows of its streams.
        table: Vec<Entry>,
        /// Sessions that end by this: those of the client's earlier runs, and the oldest when there are too many.
        ended: Vec<Arc<Session>>,
    },
    /// A later request was there before.
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

    /// This run of the agent.
    pub(super) fn boot(&self) -> BootId {
        self.boot
    }

    /// Has `connection`, which belongs to `client`, carry a session from now on. The one that did is closed.
    pub(super) fn attach(&self, client: Fingerprint, attach: &Attach, connection: &Connection) -> Attached {
        if attach.generation == 0 {
            return Attached::Stale;
        }
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (client, attach.session);
        let mut ended = Vec::new();
        let session = match all.get(&key) {
            Some(session) => session.clone(),
            None => {
                // A client has one run at a time: what an earlier one left is over.
                all.retain(|(owner, _), session| {
                    let stays = *owner != client;
                    if !stays {
                        ended.push(session.clone());
                    }
                    stays
                });
                if all.len() >= MOST {
                    let Some(oldest) = longest_left(&all) else {
                        return Attached::Busy;
                    };
                    ended.extend(all.remove(&oldest));
                }
                let Ok(epoch) = random() else {
                    return Attached::Busy;
                };
                let budget = BufferBudget::within(self.memory.clone(), buffer_budget::SESSION);
                let session = Arc::new(Session::new(client, attach.session, epoch, budget));
                all.insert(key, session.clone());
                session
            }
        };
        let keep = Duration::from_secs(attach.keep_s).min(LONGEST_KEEP);
        match session.carry_by(attach.generation, keep, connection) {
            Some(table) => {
                let shared = attach.capabilities.shared(Capabilities::OURS);
                session
                    .streams()
                    .allow_compression(shared.has(Capabilities::COMPRESSION));
                Attached::Carried {
                    session,
                    table,
                    ended,
                }
            }
            None => Attached::Stale,
        }
    }

    /// Takes in a session that another process left: `restore` makes it, with this pool for what it holds.
    pub(super) fn adopt(&self, restore: impl FnOnce(Arc<BufferBudget>) -> Arc<Session>) -> Arc<Session> {
        let session = restore(BufferBudget::within(self.memory.clone(), buffer_budget::SESSION));
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((session.client(), session.id()), session.clone());
        session
    }

    /// Forgets a session that has ended.
    pub(super) fn remove(&self, session: &Arc<Session>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (session.client(), session.id());
        if all.get(&key).is_some_and(|found| Arc::ptr_eq(found, session)) {
            all.remove(&key);
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }
}

fn longest_left(all: &HashMap<(Fingerprint, SessionId), Arc<Session>>) -> Option<(Fingerprint, SessionId)> {
    all.iter()
        .filter_map(|(key, session)| Some((session.left_since()?, *key)))
        .min_by_key(|(since, _)| *since)
        .map(|(_, key)| key)
}
