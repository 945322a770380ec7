//! Stages of a shutdown, each with a time limit of its own.

use tokio::time::timeout;

use crate::bootstrap::contract::GRACE;

/// Waits for `ended`, but no longer than [`GRACE`], so that no stage takes the time of the next.
pub(super) async fn within(stage: &str, ended: impl Future<Output = ()>) {
    if timeout(GRACE, ended).await.is_err() {
        tracing::warn!(stage, "did not end in time");
    }
}
