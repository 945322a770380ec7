//! What makes a retry worth while now: this machine woke, its way to a peer changed, or the user asked.
//!
//! # Layout
//!
//! - [`clock`]: waking and pauses, by two clocks that part; one look a second
//! - [`network`]: the address that this machine uses towards each peer
//! - [`keys`]: Enter, on the terminal that this process was started from

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

/// A reason to try again now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The user pressed Enter.
    UserAsked,
    /// This machine, or this process alone, stood still and goes on.
    Woke {
        /// For how long, to about a second.
        asleep: Duration,
    },
    /// Another source address is used towards a peer, or the route to it is gone, or was gone and is back.
    NetworkChanged,
}

/// Hears of all that is noticed. Dropped, it stops looking.
pub(crate) struct Triggers {
    told: Arc<Told>,
    peers: watch::Sender<Vec<SocketAddr>>,
    keys: Keys,
    _watchers: JoinSet<()>,
}

impl Triggers {
    /// Starts to look. `peers` are the addresses to which the way counts; names and ports of no listener do no harm,
    /// since nothing is ever sent there.
    ///
    /// Where something cannot be watched (no netlink, no terminal), less is noticed or later; nothing fails.
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

    /// Waits for the next notice. What happens several times before it is asked for comes once; a user's wish comes
    /// first. Nothing is lost when this future is dropped.
    pub(crate) async fn next(&mut self) -> Trigger {
        self.told.next().await
    }

    /// Watches the ways to other peers from now on. That they are others is no notice.
    pub(crate) fn set_peers(&self, peers: Vec<SocketAddr>) {
        self.peers.send_if_modified(|known| {
            let differ = *known != peers;
            *known = peers;
            differ
        });
    }

    /// The handle that keeps this from reading the terminal while something else asks the user there.
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

/// What was noticed and not yet asked for: a place a kind, so that it cannot grow while the owner is busy.
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
    async fn what_happens_while_the_owner_is_busy_comes_once_each_the_user_first() {
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
    async fn what_happens_is_heard_by_who_already_waits() {
        let told = Told::default();
        let (heard, ()) = tokio::join!(told.next(), async { told.tell(Trigger::NetworkChanged) });
        assert_eq!(heard, Trigger::NetworkChanged);
    }

    #[tokio::test]
    async fn a_notice_is_not_lost_with_a_wait_that_was_dropped() {
        let told = Told::default();
        assert_eq!(told.next().now_or_never(), None);
        let mut dropped = Box::pin(told.next());
        assert_eq!((&mut dropped).now_or_never(), None);
        told.tell(Trigger::UserAsked);
        drop(dropped);
        assert_eq!(told.next().now_or_never(), Some(Trigger::UserAsked));
    }

    #[tokio::test]
    async fn nothing_goes_on_once_the_owner_is_gone() {
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
