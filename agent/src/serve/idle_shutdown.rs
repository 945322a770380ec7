//! Shuts the agent down after a time without clients, which the clients set.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

/// How long the agent keeps running before any client has set a time.
pub(super) const DEFAULT_LINGER: Duration = Duration::from_secs(600);

/// Least time for an admitted client to connect: it may have to try several paths.
const CONNECT_TIME: Duration = Duration::from_secs(60);

/// Counts current activities, and tells when there has been none for long enough.
pub(super) struct IdleShutdown {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    activities: usize,
    linger: Duration,
    /// A client was admitted and none has connected since.
    expecting: bool,
}

/// An activity that keeps the agent running until this is dropped.
pub(super) struct ActivityGuard<'a>(&'a IdleShutdown);

impl IdleShutdown {
    /// For an agent that a client is about to connect to, and that keeps running without clients for `linger`.
    pub(super) fn new(linger: Duration) -> Self {
        Self {
            state: Mutex::new(State {
                activities: 0,
                linger,
                expecting: true,
            }),
            changed: Notify::new(),
        }
    }

    /// A client is about to connect. Sets how long the agent keeps running without clients, and restarts that time.
    pub(super) fn expect_client(&self, linger: Duration) {
        self.update(|state| {
            state.linger = linger;
            state.expecting = true;
        });
    }

    /// How long the agent keeps running without clients.
    pub(super) fn linger(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).linger
    }

    /// Begins an activity.
    pub(super) fn begin_activity(&self) -> ActivityGuard<'_> {
        self.update(|state| {
            state.activities += 1;
            state.expecting = false;
        });
        ActivityGuard(self)
    }

    /// Returns when there has been no activity for the set time.
    pub(super) async fn expired(&self) {
        loop {
            let changed = self.changed.notified();
            let (is_idle, linger) = {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let least = if state.expecting {
                    CONNECT_TIME
                } else {
                    Duration::ZERO
                };
                (state.activities == 0, state.linger.max(least))
            };
            if !is_idle {
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
        self.0.update(|state| state.activities -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_agent_ends_after_the_set_time_without_clients_and_not_before() {
        let idle_shutdown = IdleShutdown::new(DEFAULT_LINGER);
        idle_shutdown.expect_client(Duration::from_secs(60));
        let start = Instant::now();
        let activity = async {
            let activity = idle_shutdown.begin_activity();
            sleep(Duration::from_secs(1000)).await;
            drop(activity);
        };
        let ((), ()) = tokio::join!(idle_shutdown.expired(), activity);
        assert_eq!(start.elapsed().as_secs(), 1060);
    }

    #[tokio::test(start_paused = true)]
    async fn an_admitted_client_gets_time_to_connect() {
        let idle_shutdown = IdleShutdown::new(DEFAULT_LINGER);
        idle_shutdown.expect_client(Duration::from_secs(2));
        let start = Instant::now();
        idle_shutdown.expired().await;
        assert_eq!(start.elapsed(), CONNECT_TIME);
    }
}
