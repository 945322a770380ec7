//! The control socket: bootstraps of this user bring the clients to let in.

use std::{sync::Arc, time::Duration};

use jq_common::{
    bootstrap::{BootstrapReply, BootstrapRequest, ServeReply, Started},
    codec::{self, FrameError},
    protocol::limits,
};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Shared;
use crate::{bootstrap::failed, control::accept_own};

/// Accepts bootstraps for ever.
pub(super) async fn accept(
    control: &UnixListener,
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    loop {
        let stream = accept_own(control).await;
        let (shared, stop) = (shared.clone(), stop.clone());
        tasks.spawn(async move {
            let answered = stop.run_until_cancelled(answer(stream, &shared)).await;
            if let Some(Err(error)) = answered {
                tracing::info!(%error, "a bootstrap ended early");
            }
        });
    }
}

async fn answer(mut stream: UnixStream, shared: &Shared) -> Result<(), FrameError> {
    let request = codec::read_within(&mut stream, limits::BOOTSTRAP_FRAME, limits::FIRST_FRAME).await?;
    let reply: BootstrapReply = match request {
        BootstrapRequest::Serve(request) => {
            shared.lifetime.expect(Duration::from_secs(request.linger_s));
            shared.allowed.allow(request.client);
            Ok(Started::Serve(ServeReply {
                agent: shared.identity.fingerprint(),
                port: shared.port,
                address: None,
            }))
        }
        BootstrapRequest::Relay(_) => Err(failed("wrong role", "this is an agent and not a relay")),
    };
    codec::write(&mut stream, &reply, limits::BOOTSTRAP_FRAME).await
}
