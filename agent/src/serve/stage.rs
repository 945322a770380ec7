//! Stages of a shutdown, each with its own time limit.

use tokio::time::timeout;

use crate::bootstrap::contract::GRACE;

/// Waits for a stage, but no longer than [`GRACE`].
pub(super) async fn within(stage: &str, ended: impl Future<Output = ()>) {
    if timeout(GRACE, ended).await.is_err() {
        tracing::warn!(stage, "a stage of the shutdown did not finish in time");
    }
}
