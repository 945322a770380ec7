//! Where work passes that a successor could not take over in the middle.

use std::sync::Arc;

use tokio::sync::watch;

/// Open until an upgrade begins. Then nobody enters, and the upgrade waits for those inside to leave.
#[derive(Clone)]
pub(super) struct Quiesce(Arc<watch::Sender<State>>);

#[derive(Default)]
struct State {
    closed: bool,
    inside: usize,
}

/// Somebody is inside for as long as this lives.
pub(super) struct Permit(Quiesce);

impl Default for Quiesce {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }
}

impl Quiesce {
    /// Enters, once it is open.
    pub(super) async fn enter(&self) -> Permit {
        loop {
            let entered = self.0.send_if_modified(|state| {
                state.inside += usize::from(!state.closed);
                !state.closed
            });
            if entered {
                return Permit(self.clone());
            }
            self.opened().await;
        }
    }

    /// For somebody who is inside already: stays for as long as the pass lives.
    pub(super) fn again(&self) -> Permit {
        self.0.send_modify(|state| state.inside += 1);
        Permit(self.clone())
    }

    /// Returns when it is open.
    pub(super) async fn opened(&self) {
        self.until(|state| !state.closed).await;
    }

    /// Returns when it is closed.
    pub(super) async fn closed(&self) {
        self.until(|state| state.closed).await;
    }

    /// Returns when nobody is inside.
    pub(super) async fn empty(&self) {
        self.until(|state| state.inside == 0).await;
    }

    async fn until(&self, condition: impl FnMut(&State) -> bool) {
        // Fails only when the sender is gone, which is here.
        let _ = self.0.subscribe().wait_for(condition).await;
    }

    /// Closes it. False when it was closed before.
    pub(super) fn close(&self) -> bool {
        self.0.send_if_modified(|state| {
            let open = !state.closed;
            state.closed = true;
            open
        })
    }

    /// Opens it again.
    pub(super) fn open(&self) {
        self.0.send_modify(|state| state.closed = false);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.inside -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_closed_gate_keeps_newcomers_out_and_waits_for_those_inside() {
        let quiesce = Quiesce::default();
        let inside = quiesce.enter().await;
        assert!(quiesce.close());
        assert!(!quiesce.close(), "closed before");
        assert!(quiesce.empty().now_or_never().is_none());
        assert!(quiesce.enter().now_or_never().is_none());
        drop(inside);
        assert!(quiesce.empty().now_or_never().is_some());
        quiesce.open();
        assert!(quiesce.enter().now_or_never().is_some());
    }
}
