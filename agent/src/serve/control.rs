//! The control socket: bootstraps of this user admit clients here, and tunnel packets for clients that UDP does not
//! reach.

use std::{sync::Arc, time::Duration};

use jq_common::{
    bootstrap::{AdmitReply, AdmitRequest, BootstrapReply, BootstrapRequest, LoginCompared, Started},
    carrier::pipe,
    codec::{self, FrameError},
    peer_cred::accept_own,
    protocol::{limits, workload::Failure},
    quic::CarrierKind,
};
use quinn::{Endpoint, VarInt};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::OwnedSemaphorePermit,
    time::{interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    accept::accept_clients,
    handover::prepare::{self, Prepared},
    shared::Shared,
    upgrade::Upgrade,
};
use crate::{
    failure::{host_unfit, older_build},
    peer_place,
};

/// Most tunnels open at once, each over a client's SSH channel. Every client that connects uses one until UDP works.
pub(super) const MOST_TUNNELS: usize = 64;

/// Interval between checks that a tunnel has a client. A client without a connection for two intervals is gone, though
/// ssh may take hours to notice.
const UNUSED_CHECK: Duration = Duration::from_secs(60);

/// Time limit for a tunnel to wait until another ends. Most are needed only for a moment.
const TUNNEL_WAIT: Duration = Duration::from_secs(5);

/// Accepts bootstraps forever.
pub(super) async fn accept(
    control: &UnixListener,
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    loop {
        let stream = accept_own(control).await;
        if !peer_place::is_here(&stream).unwrap_or(false) {
            tracing::warn!("a process in a container, or one that is gone, tried the control socket");
            continue;
        }
        let (shared, clients, stop) = (shared.clone(), tasks.clone(), stop.clone());
        tasks.spawn(async move {
            match stop.run_until_cancelled(answer(stream, &shared)).await {
                Some(Ok(Some(tunnel))) => tunnel.serve(&shared, &clients, &stop).await,
                Some(Err(error)) => tracing::info!(%error, "a bootstrap failed"),
                Some(Ok(None)) | None => {}
            }
        });
    }
}

/// Answers one bootstrap. Returns the tunnel if it asked for one. An upgrade request is answered by the successor.
async fn answer(mut stream: UnixStream, shared: &Shared) -> Result<Option<Tunnel>, FrameError> {
    let read = codec::read_within(&mut stream, limits::BOOTSTRAP_FRAME, limits::FIRST_FRAME).await;
    let request = match read {
        Err(FrameError::Unsupported(why)) => {
            tracing::info!(%why, "a bootstrap of a newer build");
            let reply: BootstrapReply = Err(older_build());
            codec::write(&mut stream, &reply, limits::BOOTSTRAP_FRAME).await?;
            return Ok(None);
        }
        read => read?,
    };
    let (reply, permit): (BootstrapReply, _) = match request {
        BootstrapRequest::Admit(request) => (Ok(admit(&request, shared)), None),
        BootstrapRequest::AdmitAndTunnel(request) => {
            match timeout(TUNNEL_WAIT, shared.tunnels.clone().acquire_owned()).await {
                Ok(Ok(permit)) => (Ok(admit(&request, shared)), Some(permit)),
                Ok(Err(_)) | Err(_) => {
                    let why = "too many clients are connected over ssh without UDP";
                    (Err(host_unfit("no more ssh connections", why)), None)
                }
            }
        }
        BootstrapRequest::CompareLogin(login) => {
            let differs = shared.login.differences(&login);
            codec::write(&mut stream, &LoginCompared { differs }, limits::BOOTSTRAP_FRAME).await?;
            return Ok(None);
        }
        BootstrapRequest::Upgrade(request) => match prepare::upgrade(request, shared).await {
            Ok(prepared) => {
                agreed(prepared, stream, shared).await;
                return Ok(None);
            }
            Err(why) => (Err(refused(why)), None),
        },
        BootstrapRequest::HandOver(request) => match prepare::hand_over(&request, shared).await {
            Ok(prepared) => {
                let reply: BootstrapReply = Ok(address(shared));
                let told = codec::write(&mut stream, &reply, limits::BOOTSTRAP_FRAME).await;
                // It is handed over even to one that is gone: that fails, and this agent restores itself.
                agreed(prepared, stream, shared).await;
                return told.map(|()| None);
            }
            Err(why) => (Err(refused(why)), None),
        },
        BootstrapRequest::Relay(_) => (
            Err(host_unfit("wrong role", "this is an agent and not a relay")),
            None,
        ),
    };
    codec::write(&mut stream, &reply, limits::BOOTSTRAP_FRAME).await?;
    Ok(permit.map(|permit| Tunnel {
        stream,
        _permit: permit,
    }))
}

/// Has the server hand over. `requester` is told the result.
async fn agreed(prepared: Prepared, requester: UnixStream, shared: &Shared) {
    let Prepared { format, successor } = prepared;
    let upgrade = Upgrade {
        requester,
        format,
        successor,
    };
    // Fails only when the agent is shutting down.
    let _ = shared.upgrades.send(upgrade).await;
}

fn refused(why: String) -> Failure {
    tracing::info!(why, "upgrade refused");
    host_unfit("the agent stays as it is", why)
}

fn admit(request: &AdmitRequest, shared: &Shared) -> Started {
    shared
        .context
        .idle
        .expect_client(Duration::from_secs(request.linger_s));
    shared.allowed.allow(request.client);
    address(shared)
}

/// How clients reach this agent.
pub(super) fn address(shared: &Shared) -> Started {
    Started::Serve(AdmitReply {
        agent: shared.identity.fingerprint(),
        port: shared.port,
        address: None,
        others: Vec::new(),
        machine: None,
        notes: Vec::new(),
    })
}

/// A control connection that tunnels QUIC packets.
struct Tunnel {
    stream: UnixStream,
    _permit: OwnedSemaphorePermit,
}

impl Tunnel {
    /// Serves the clients that connect through the tunnel, until the other side closes it or `stop` is cancelled.
    async fn serve(self, shared: &Arc<Shared>, tasks: &TaskTracker, stop: &CancellationToken) {
        let (reader, writer) = self.stream.into_split();
        let (carrier, driver) = pipe::over(reader, writer);
        let endpoint = match shared.quic.endpoint_on(carrier, CarrierKind::Pipe) {
            Ok(endpoint) => endpoint,
            Err(error) => return tracing::warn!(%error, "no QUIC endpoint on a tunnel"),
        };
        let stopped = async {
            tokio::select! {
                () = accept_clients(&endpoint, shared, tasks, stop) => {}
                () = stop.cancelled() => {}
            }
            endpoint.close(VarInt::from_u32(0), b"agent ends");
            // The CONNECTION_CLOSE packet must still be sent.
            endpoint.wait_idle().await;
        };
        tokio::select! {
            () = stopped => {}
            () = unused(&endpoint) => tracing::info!("a tunnel was closed: no client used it"),
            ended = driver.run() => match ended {
                Ok(()) => tracing::debug!("a tunnel ended"),
                Err(error) => tracing::info!(%error, "a tunnel ended"),
            }
        }
        endpoint.close(VarInt::from_u32(0), b"the pipe ended");
    }
}

/// Returns when no client has been connected on `endpoint` for one to two intervals.
async fn unused(endpoint: &Endpoint) {
    let mut checks = interval(UNUSED_CHECK);
    checks.tick().await;
    let mut before = true;
    loop {
        checks.tick().await;
        let now = endpoint.open_connections() > 0;
        if !before && !now {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests;
