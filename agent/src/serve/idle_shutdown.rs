//! When the agent ends by itself: nobody has been connected for a time that clients set.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

/// How long the agent stays before any client has said how long.
pub(super) const DEFAULT_LINGER: Duration = Duration::from_secs(600);

/// How long the agent stays at least for a client that was announced: it may have to try several ways.
const ARRIVAL: Duration = Duration::from_secs(60);

/// Counts who is connected, and tells when the agent has been alone for long enough.
pub(super) struct IdleShutdown {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    connected: usize,
    linger: Duration,
    /// A client was announced and none has come since.
    expecting: bool,
}

/// Somebody is connected for as long as this lives.
pub(super) struct ActivityGuard<'a>(&'a IdleShutdown);

impl IdleShutdown {
    /// Of an agent that somebody is about to come to, and that stays alone for `linger`.
    pub(super) fn new(linger: Duration) -> Self {
        Self {
            state: Mutex::new(State {
                connected: 0,
                linger,
                expecting: true,
            }),
            changed: Notify::new(),
        }
    }

    /// A client is about to come, and sets how long the agent stays alone; time alone starts anew.
    pub(super) fn expect(&self, linger: Duration) {
        self.update(|state| {
            state.linger = linger;
            state.expecting = true;
        });
    }

    /// How long the agent stays alone.
    pub(super) fn linger(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).linger
    }

    /// Somebody is connected.
    pub(super) fn enter(&self) -> ActivityGuard<'_> {
        self.update(|state| {
            state.connected += 1;
            state.expecting = false;
        });
        ActivityGuard(self)
    }

    /// Returns when nobody has been connected for the set time.
    pub(super) async fn ended(&self) {
        loop {
            let changed = self.changed.notified();
            let (alone, linger) = {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let least = if state.expecting { ARRIVAL } else { Duration::ZERO };
                (state.connected == 0, state.linger.max(least))
            };
            if !alone {
                changed.await;
                continue;
            }
            tokio::select! {
                () = sleep(linger) => return,
                () = changed => {}
            }
        }
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
    }
}

impl Drop for ActivityGuard<'_> {
    fn drop(&mut self) {
        self.0.update(|state| state.connected -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_agent_ends_when_alone_for_the_set_time_and_not_before() {
        let idle_shutdown = IdleShutdown::new(DEFAULT_LINGER);
        idle_shutdown.expect(Duration::from_secs(60));
        let start = Instant::now();
        let presence = async {
            let presence = idle_shutdown.enter();
            sleep(Duration::from_secs(1000)).await;
            drop(presence);
        };
        let ((), ()) = tokio::join!(idle_shutdown.ended(), presence);
        assert_eq!(start.elapsed().as_secs(), 1060);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_was_announced_is_given_time_to_come() {
        let idle_shutdown = IdleShutdown::new(DEFAULT_LINGER);
        idle_shutdown.expect(Duration::from_secs(2));
        let start = Instant::now();
        idle_shutdown.ended().await;
        assert_eq!(start.elapsed(), ARRIVAL);
    }
}
