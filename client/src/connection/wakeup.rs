//! Reasons to retry now: this machine resumed from suspend, its route to a peer changed, or the user pressed Enter.
//!
//! # Layout
//!
//! - [`clock`]: detects suspend, and tells it from pauses of this process, by comparing two clocks once a second
//! - [`network`]: detects changes of the source address that this machine uses for each peer
//! - [`keys`]: reads Enter from the terminal; `descriptor`: waits for a descriptor

pub(crate) mod clock;
mod descriptor;
pub(crate) mod keys;
pub(crate) mod network;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use self::{
    clock::Clock,
    keys::{Keys, Terminal},
    network::Network,
};

/// A reason to retry now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The user pressed Enter.
    UserAsked,
    /// This machine resumed from suspend, or this process continued after it was stopped or got no CPU.
    Woke {
        /// How long the machine was suspended, to about a second; zero if only this process stood still.
        suspended: Duration,
    },
    /// The source address for a peer changed, or the route to it was lost or restored.
    NetworkChanged,
}

/// Watches for triggers until it is dropped.
pub(crate) struct Triggers {
    pending: Arc<Pending>,
    peers: watch::Sender<Vec<SocketAddr>>,
    keys: Keys,
    _watchers: JoinSet<()>,
}

impl Triggers {
    /// Starts to watch, among others the routes to `peers`. Nothing is ever sent to them.
    ///
    /// Where something cannot be watched (no netlink, no terminal), triggers come later or not at all; nothing fails.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O.
    #[must_use]
    pub(crate) fn start(peers: Vec<SocketAddr>) -> Self {
        let pending = Arc::new(Pending::default());
        let keys = Keys::default();
        let (peers, network) = watch::channel(peers);
        let mut watchers = JoinSet::new();
        watchers.spawn(wakes(pending.clone()));
        watchers.spawn(changes(Network::watch(network), pending.clone()));
        if let Some(terminal) = Terminal::of_the_user(keys.clone()) {
            watchers.spawn(lines(terminal, pending.clone()));
        }
        Self {
            pending,
            peers,
            keys,
            _watchers: watchers,
        }
    }

    /// Waits for the next trigger. Several of one kind since the last call count once; the user's comes first. Cancel
    /// safe.
    pub(crate) async fn next(&mut self) -> Trigger {
        self.pending.next().await
    }

    /// Replaces the peers whose routes are watched. The replacement itself is no trigger.
    pub(crate) fn set_peers(&self, peers: Vec<SocketAddr>) {
        self.peers.send_if_modified(|known| {
            let differ = *known != peers;
            *known = peers;
            differ
        });
    }

    /// A handle to stop reading the terminal while ssh asks the user there.
    #[must_use]
    pub(crate) fn keys(&self) -> Keys {
        self.keys.clone()
    }
}

async fn wakes(pending: Arc<Pending>) {
    let mut clock = Clock::start();
    loop {
        let pause = clock.pause().await;
        tracing::info!(?pause);
        pending.add(Trigger::Woke {
            suspended: pause.suspended,
        });
    }
}

async fn changes(mut network: Network, pending: Arc<Pending>) {
    loop {
        network.changed().await;
        pending.add(Trigger::NetworkChanged);
    }
}

async fn lines(mut terminal: Terminal, pending: Arc<Pending>) {
    while terminal.line().await {
        pending.add(Trigger::UserAsked);
    }
}

/// Pending triggers, one of each kind, so that their number is bounded.
#[derive(Default)]
struct Pending {
    slots: Mutex<Slots>,
    added: Notify,
}

#[derive(Default)]
struct Slots {
    asked: bool,
    /// Time in suspend, since this machine or this process woke.
    woke: Option<Duration>,
    changed: bool,
}

impl Pending {
    fn add(&self, trigger: Trigger) {
        tracing::debug!(?trigger);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match trigger {
            Trigger::UserAsked => slots.asked = true,
            Trigger::NetworkChanged => slots.changed = true,
            Trigger::Woke { suspended } => {
                slots.woke = Some(slots.woke.unwrap_or_default().saturating_add(suspended));
            }
        }
        drop(slots);
        self.added.notify_one();
    }

    fn take(&self) -> Option<Trigger> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut slots.asked) {
            return Some(Trigger::UserAsked);
        }
        if let Some(suspended) = slots.woke.take() {
            return Some(Trigger::Woke { suspended });
        }
        std::mem::take(&mut slots.changed).then_some(Trigger::NetworkChanged)
    }

    async fn next(&self) -> Trigger {
        loop {
            if let Some(notice) = self.take() {
                return notice;
            }
            self.added.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn triggers_of_one_kind_are_merged_and_the_users_comes_first() {
        let pending = Pending::default();
        for _ in 0..3 {
            pending.add(Trigger::NetworkChanged);
            pending.add(Trigger::Woke { suspended: HOUR });
            pending.add(Trigger::Woke {
                suspended: Duration::ZERO,
            });
            pending.add(Trigger::UserAsked);
        }
        assert_eq!(pending.next().await, Trigger::UserAsked);
        assert_eq!(pending.next().await, Trigger::Woke { suspended: 3 * HOUR });
        assert_eq!(pending.next().await, Trigger::NetworkChanged);
        assert_eq!(pending.next().now_or_never(), None);
    }

    #[tokio::test]
    async fn a_trigger_wakes_a_waiting_task() {
        let pending = Pending::default();
        let (heard, ()) = tokio::join!(pending.next(), async { pending.add(Trigger::NetworkChanged) });
        assert_eq!(heard, Trigger::NetworkChanged);
    }

    #[tokio::test]
    async fn a_trigger_is_not_lost_when_a_wait_is_dropped() {
        let pending = Pending::default();
        assert_eq!(pending.next().now_or_never(), None);
        let mut dropped = Box::pin(pending.next());
        assert_eq!((&mut dropped).now_or_never(), None);
        pending.add(Trigger::UserAsked);
        drop(dropped);
        assert_eq!(pending.next().now_or_never(), Some(Trigger::UserAsked));
    }

    #[tokio::test]
    async fn watching_ends_when_the_owner_is_dropped() {
        let triggers = Triggers::start(Vec::new());
        let pending = Arc::downgrade(&triggers.pending);
        drop(triggers);
        let gone = async {
            while pending.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    }
}
