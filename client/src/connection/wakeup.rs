//! Reasons to retry now: this machine resumed from suspend, its route to a peer changed, or the user pressed Enter.
//!
//! # Layout
//!
//! - [`clock`]: detects suspend, and pauses of this process, by comparing two clocks once a second
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
    /// This machine resumed from suspend, or this process after it was stopped.
    Woke {
        /// Length of the pause, to about a second.
        asleep: Duration,
    },
    /// The source address for a peer changed, or the route to it was lost or restored.
    NetworkChanged,
}

/// Watches for triggers until it is dropped.
pub(crate) struct Triggers {
    told: Arc<Told>,
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
        let told = Arc::new(Told::default());
        let keys = Keys::default();
        let (peers, network) = watch::channel(peers);
        let mut watchers = JoinSet::new();
        watchers.spawn(wakes(told.clone()));
        watchers.spawn(changes(Network::watch(network), told.clone()));
        if let Some(terminal) = Terminal::of_the_user(keys.clone()) {
            watchers.spawn(lines(terminal, told.clone()));
        }
        Self {
            told,
            peers,
            keys,
            _watchers: watchers,
        }
    }

    /// Waits for the next trigger. Several of one kind since the last call count once; the user's comes first. Cancel
    /// safe.
    pub(crate) async fn next(&mut self) -> Trigger {
        self.told.next().await
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

async fn wakes(told: Arc<Told>) {
    let mut clock = Clock::start();
    loop {
        let asleep = clock.pause().await.asleep;
        told.tell(Trigger::Woke { asleep });
    }
}

async fn changes(mut network: Network, told: Arc<Told>) {
    loop {
        network.changed().await;
        told.tell(Trigger::NetworkChanged);
    }
}

async fn lines(mut terminal: Terminal, told: Arc<Told>) {
    while terminal.line().await {
        told.tell(Trigger::UserAsked);
    }
}

/// Pending triggers, one of each kind, so that their number is bounded.
#[derive(Default)]
struct Told {
    pending: Mutex<Pending>,
    some: Notify,
}

#[derive(Default)]
struct Pending {
    asked: bool,
    asleep: Option<Duration>,
    changed: bool,
}

impl Told {
    fn tell(&self, notice: Trigger) {
        tracing::debug!(?notice);
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match notice {
            Trigger::UserAsked => pending.asked = true,
            Trigger::NetworkChanged => pending.changed = true,
            Trigger::Woke { asleep } => {
                pending.asleep = Some(pending.asleep.unwrap_or_default().saturating_add(asleep));
            }
        }
        drop(pending);
        self.some.notify_one();
    }

    fn take(&self) -> Option<Trigger> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut pending.asked) {
            return Some(Trigger::UserAsked);
        }
        if let Some(asleep) = pending.asleep.take() {
            return Some(Trigger::Woke { asleep });
        }
        std::mem::take(&mut pending.changed).then_some(Trigger::NetworkChanged)
    }

    async fn next(&self) -> Trigger {
        loop {
            if let Some(notice) = self.take() {
                return notice;
            }
            self.some.notified().await;
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
        let told = Told::default();
        for _ in 0..3 {
            told.tell(Trigger::NetworkChanged);
            told.tell(Trigger::Woke { asleep: HOUR });
            told.tell(Trigger::UserAsked);
        }
        assert_eq!(told.next().await, Trigger::UserAsked);
        assert_eq!(told.next().await, Trigger::Woke { asleep: 3 * HOUR });
        assert_eq!(told.next().await, Trigger::NetworkChanged);
        assert_eq!(told.next().now_or_never(), None);
    }

    #[tokio::test]
    async fn a_trigger_wakes_a_waiting_task() {
        let told = Told::default();
        let (heard, ()) = tokio::join!(told.next(), async { told.tell(Trigger::NetworkChanged) });
        assert_eq!(heard, Trigger::NetworkChanged);
    }

    #[tokio::test]
    async fn a_trigger_is_not_lost_when_a_wait_is_dropped() {
        let told = Told::default();
        assert_eq!(told.next().now_or_never(), None);
        let mut dropped = Box::pin(told.next());
        assert_eq!((&mut dropped).now_or_never(), None);
        told.tell(Trigger::UserAsked);
        drop(dropped);
        assert_eq!(told.next().now_or_never(), Some(Trigger::UserAsked));
    }

    #[tokio::test]
    async fn watching_ends_when_the_owner_is_dropped() {
        let notices = Triggers::start(Vec::new());
        let told = Arc::downgrade(&notices.told);
        drop(notices);
        let gone = async {
            while told.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    }
}
