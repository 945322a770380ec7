//! Accepts QUIC connections of clients.

use std::{sync::Arc, time::Duration};

use quinn::{Endpoint, Incoming};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{attachment, shared::Shared};

/// Unfinished handshakes above which a new client must first prove its address (RFC 9000, section 8.1.2).
const HANDSHAKES: usize = 4;

/// Time limit for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Most unfinished handshakes; further ones get no answer.
const MOST_HANDSHAKES: usize = 64;

/// Accepts clients on `endpoint` and serves each in one of `tasks` until it leaves or `stop` is cancelled. Returns when
/// the endpoint is closed.
pub(super) async fn accept_clients(
    endpoint: &Endpoint,
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let unfinished = TaskTracker::new();
    while let Some(incoming) = endpoint.accept().await {
        if unfinished.len() >= MOST_HANDSHAKES {
            incoming.ignore();
            continue;
        }
        if unfinished.len() >= HANDSHAKES && incoming.may_retry() {
            // Fails only for an address that is already validated.
            let _ = incoming.retry();
            continue;
        }
        let handshake = unfinished.token();
        let (shared, stop) = (shared.clone(), stop.clone());
        tasks.spawn(async move {
            let connection = timeout(HANDSHAKE, accept(incoming)).await;
            drop(handshake);
            match connection {
                Ok(Ok(connection)) => attachment::serve(connection, shared, stop).await,
                Ok(Err(error)) => tracing::debug!(%error, "a client's handshake failed"),
                Err(_) => tracing::debug!("a client's handshake timed out"),
            }
        });
    }
}

async fn accept(incoming: Incoming) -> Result<quinn::Connection, quinn::ConnectionError> {
    incoming.accept()?.await
}
