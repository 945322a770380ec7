//! Pauses work that a successor could not take over in progress.

use std::sync::Arc;

use tokio::sync::watch;

/// Grants permits for work until an upgrade starts. Then no more are granted, and the upgrade waits until all are
/// returned.
#[derive(Clone)]
pub(super) struct Quiesce(Arc<watch::Sender<State>>);

#[derive(Default)]
struct State {
    paused: bool,
    permits: usize,
}

/// Permission to work, returned when dropped.
pub(super) struct Permit(Quiesce);

impl Default for Quiesce {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }
}

impl Quiesce {
    /// Waits while an upgrade is starting, then grants a permit.
    pub(super) async fn acquire(&self) -> Permit {
        loop {
            let granted = self.0.send_if_modified(|state| {
                state.permits += usize::from(!state.paused);
                !state.paused
            });
            if granted {
                return Permit(self.clone());
            }
            self.resumed().await;
        }
    }

    /// Grants another permit to a holder of one, even while an upgrade is starting.
    pub(super) fn acquire_another(&self) -> Permit {
        self.0.send_modify(|state| state.permits += 1);
        Permit(self.clone())
    }

    /// Returns when permits are granted.
    pub(super) async fn resumed(&self) {
        self.until(|state| !state.paused).await;
    }

    /// Returns when an upgrade is starting.
    pub(super) async fn started(&self) {
        self.until(|state| state.paused).await;
    }

    /// Returns when no permit is held.
    pub(super) async fn drained(&self) {
        self.until(|state| state.permits == 0).await;
    }

    async fn until(&self, condition: impl FnMut(&State) -> bool) {
        // Fails only when the sender is gone, which `self` holds.
        let _ = self.0.subscribe().wait_for(condition).await;
    }

    /// Stops granting permits. False when that was already so.
    pub(super) fn start(&self) -> bool {
        self.0.send_if_modified(|state| {
            let was_running = !state.paused;
            state.paused = true;
            was_running
        })
    }

    /// Grants permits again.
    pub(super) fn resume(&self) {
        self.0.send_modify(|state| state.paused = false);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.permits -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn no_permit_is_granted_during_an_upgrade_and_those_held_are_waited_for() {
        let quiesce = Quiesce::default();
        let held = quiesce.acquire().await;
        assert!(quiesce.start());
        assert!(!quiesce.start(), "started before");
        assert!(quiesce.drained().now_or_never().is_none());
        assert!(quiesce.acquire().now_or_never().is_none());
        drop(held);
        assert!(quiesce.drained().now_or_never().is_some());
        quiesce.resume();
        assert!(quiesce.acquire().now_or_never().is_some());
    }
}
