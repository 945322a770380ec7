//! The control socket: bootstraps of this user bring the clients to let in, and carry packets for those that UDP does not.

use std::{sync::Arc, time::Duration};

use jq_common::{
    bootstrap::{AdmitReply, AdmitRequest, BootstrapReply, BootstrapRequest, Started},
    carrier::pipe,
    codec::{self, FrameError},
    peer_cred::accept_own,
    protocol::limits,
    quic::CarrierKind,
};
use quinn::{Endpoint, VarInt};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::OwnedSemaphorePermit,
    time::{interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{accept::accept_clients, handover, shared::Shared};
use crate::failure::host_unfit;

/// How many pipes of packets may be open at once, each an SSH channel of a client. Every client that connects has one until
/// UDP is found to work.
pub(super) const PIPES: usize = 64;

/// How often it is looked whether anybody uses a pipe. Whose laptop is gone for two of these has lost its connection,
/// though ssh may take hours to notice.
const UNUSED: Duration = Duration::from_secs(60);

/// How long a pipe may have to wait for others to end. Most are needed for a moment only.
const TURN: Duration = Duration::from_secs(5);

/// Accepts bootstraps for ever.
pub(super) async fn accept(
    control: &UnixListener,
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    loop {
        let stream = accept_own(control).await;
        let (shared, clients, stop) = (shared.clone(), tasks.clone(), stop.clone());
        tasks.spawn(async move {
            match stop.run_until_cancelled(answer(stream, &shared)).await {
                Some(Ok(Some(pipe))) => pipe.carry(&shared, &clients, &stop).await,
                Some(Err(error)) => tracing::info!(%error, "a bootstrap ended early"),
                Some(Ok(None)) | None => {}
            }
        });
    }
}

/// Answers one bootstrap. Where it asked for one, its stream is a pipe of packets from here on; one that asked for an
/// upgrade is answered by the successor.
async fn answer(mut stream: UnixStream, shared: &Shared) -> Result<Option<Pipe>, FrameError> {
    let request = codec::read_within(&mut stream, limits::BOOTSTRAP_FRAME, limits::FIRST_FRAME).await?;
    let (reply, permit): (BootstrapReply, _) = match request {
        BootstrapRequest::Admit(request) => (Ok(let_in(&request, shared)), None),
        BootstrapRequest::AdmitAndTunnel(request) => {
            match timeout(TURN, shared.pipes.clone().acquire_owned()).await {
                Ok(Ok(permit)) => (Ok(let_in(&request, shared)), Some(permit)),
                Ok(Err(_)) | Err(_) => {
                    let why = "too many clients are connected over ssh without UDP";
                    (Err(host_unfit("no more ssh connections", why)), None)
                }
            }
        }
        BootstrapRequest::Upgrade(request) => match handover::prepare(request, shared).await {
            Ok(prepared) => {
                // Fails only when the agent is ending.
                let _ = shared.upgrades.send(prepared.for_asker(stream)).await;
                return Ok(None);
            }
            Err(why) => {
                tracing::info!(why, "no upgrade");
                (Err(host_unfit("the agent stays as it is", why)), None)
            }
        },
        BootstrapRequest::Relay(_) => (
            Err(host_unfit("wrong role", "this is an agent and not a relay")),
            None,
        ),
    };
    codec::write(&mut stream, &reply, limits::BOOTSTRAP_FRAME).await?;
    Ok(permit.map(|permit| Pipe {
        stream,
        _permit: permit,
    }))
}

fn let_in(request: &AdmitRequest, shared: &Shared) -> Started {
    shared.context.idle.expect(Duration::from_secs(request.linger_s));
    shared.allowed.allow(request.client);
    started(shared)
}

/// How this agent is reached.
pub(super) fn started(shared: &Shared) -> Started {
    Started::Serve(AdmitReply {
        agent: shared.identity.fingerprint(),
        port: shared.port,
        address: None,
        others: Vec::new(),
    })
}

/// A control connection that carries packets.
struct Pipe {
    stream: UnixStream,
    _permit: OwnedSemaphorePermit,
}

impl Pipe {
    /// Serves the clients that come through it, until the other side ends it or `stop` is cancelled.
    async fn carry(self, shared: &Arc<Shared>, tasks: &TaskTracker, stop: &CancellationToken) {
        let (reader, writer) = self.stream.into_split();
        let (carrier, driver) = pipe::over(reader, writer);
        let endpoint = match shared.quic.endpoint_on(carrier, CarrierKind::Pipe) {
            Ok(endpoint) => endpoint,
            Err(error) => return tracing::warn!(%error, "no endpoint on a pipe"),
        };
        let stopped = async {
            tokio::select! {
                () = accept_clients(&endpoint, shared, tasks, stop) => {}
                () = stop.cancelled() => {}
            }
            endpoint.close(VarInt::from_u32(0), b"agent ends");
            // The farewell is still to be carried.
            endpoint.wait_idle().await;
        };
        tokio::select! {
            () = stopped => {}
            () = unused(&endpoint) => tracing::info!("a pipe was ended: nobody used it"),
            ended = driver.run() => match ended {
                Ok(()) => tracing::debug!("a pipe ended"),
                Err(error) => tracing::info!(%error, "a pipe ended"),
            }
        }
        endpoint.close(VarInt::from_u32(0), b"the pipe ended");
    }
}

/// Returns when no client has been connected by `endpoint` for a while.
async fn unused(endpoint: &Endpoint) {
    let mut looks = interval(UNUSED);
    looks.tick().await;
    let mut before = true;
    loop {
        looks.tick().await;
        let now = endpoint.open_connections() > 0;
        if !before && !now {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests;
