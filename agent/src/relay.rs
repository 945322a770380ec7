//! The role on a gateway: forwards sealed QUIC packets between a client and an agent.
//!
//! It can neither read nor forge these packets. In place of the agent there may be the next relay of a chain. The pairs
//! that it serves are announced over SSH, through the control socket; packets of unknown senders get no answer. The
//! wire format and its rules are in [`jq_common::carrier::relay`].

mod batch;
mod forward;
mod pairs;
mod socket;

use std::{fs::File, sync::Arc, time::Duration};

use jq_common::{
    bootstrap::{BootstrapReply, BootstrapRequest, RelayReply, Started},
    carrier::relay::CookieKey,
    codec::{self, FrameError},
    peer_cred::accept_own,
    protocol::limits,
};
use tokio::{
    net::{UnixListener, UnixStream},
    time::{Instant, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{forward::Forwarder, pairs::Pairs, socket::Socket};
use crate::{
    failure::{host_unfit, older_build},
    peer_place,
    role_start::{RoleSockets, StartError, random},
    rundir::RunDir,
};

/// How long a pair is kept without a packet, and the process without a pair.
const IDLE: Duration = Duration::from_secs(300);

/// Interval between checks for idle pairs.
const SWEEP: Duration = Duration::from_secs(10);

/// The running role.
pub struct Relay {
    shared: Arc<Shared>,
    control: UnixListener,
    tasks: TaskTracker,
    stop: CancellationToken,
    _lock: File,
}

/// State that all tasks of the role share.
struct Shared {
    forwarder: Forwarder,
    port: u16,
}

impl Relay {
    /// Starts the role: takes the lock, a UDP port and the control socket.
    ///
    /// # Errors
    /// Any [`StartError`]. Must be called within a tokio runtime.
    pub fn bind(folder: &RunDir) -> Result<Self, StartError> {
        let sockets = RoleSockets::bind(folder)?;
        let forwarder = Forwarder {
            socket: Socket::new(sockets.udp).map_err(StartError::Udp)?,
            pairs: Pairs::default(),
            cookies: CookieKey::new(&random()?),
        };
        let port = sockets.port;
        tracing::info!(port, "relaying");
        Ok(Self {
            shared: Arc::new(Shared { forwarder, port }),
            control: sockets.control,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            _lock: sockets.lock,
        })
    }

    /// Relays until there has been no pair for five minutes. A pair that was idle for as long is removed.
    pub async fn join(&self) {
        tokio::select! {
            () = self.shared.forwarder.to_agents() => {}
            () = self.accept_bootstraps() => {}
            () = self.idle() => tracing::info!("no pair was in use for five minutes"),
        }
    }

    /// Shuts down and drops all pairs.
    pub async fn shutdown(self) {
        drop(self.control);
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn accept_bootstraps(&self) {
        loop {
            let stream = accept_own(&self.control).await;
            if !peer_place::is_here(&stream).unwrap_or(false) {
                tracing::warn!("a process in a container, or one that is gone, tried the control socket");
                continue;
            }
            let (shared, tasks, stop) = (self.shared.clone(), self.tasks.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                let answered = stop
                    .clone()
                    .run_until_cancelled_owned(answer(stream, shared, tasks, stop))
                    .await;
                if let Some(Err(error)) = answered {
                    tracing::info!(%error, "a bootstrap failed");
                }
            });
        }
    }

    async fn idle(&self) {
        let mut sweep = interval(SWEEP);
        let mut last_used = Instant::now();
        while last_used.elapsed() < IDLE {
            sweep.tick().await;
            if self.shared.forwarder.pairs.remove_idle(IDLE) > 0 {
                last_used = Instant::now();
            }
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> Result<(), FrameError> {
    let read = codec::read_within(&mut stream, limits::BOOTSTRAP_FRAME, limits::FIRST_FRAME).await;
    let request = match read {
        Err(FrameError::Unsupported(why)) => {
            tracing::info!(%why, "a bootstrap of a newer build");
            let reply: BootstrapReply = Err(older_build());
            return codec::write(&mut stream, &reply, limits::BOOTSTRAP_FRAME).await;
        }
        read => read?,
    };
    let reply: BootstrapReply = match request {
        BootstrapRequest::Relay(request) => match shared.forwarder.pairs.announce(&request, shared.port) {
            Ok(announced) => {
                let port = shared.port;
                if let Some(pair) = announced {
                    tasks.spawn(async move {
                        let removed = pair.removed();
                        tokio::select! {
                            () = shared.forwarder.to_client(&pair) => {}
                            () = removed.cancelled() => {}
                            () = stop.cancelled() => {}
                        }
                    });
                }
                // Only the bootstrap knows the address of the ssh connection.
                Ok(Started::Relay(RelayReply { port, address: None }))
            }
            Err(error) => Err(host_unfit("the gateway cannot send to the next host", error)),
        },
        BootstrapRequest::Admit(_)
        | BootstrapRequest::AdmitAndTunnel(_)
        | BootstrapRequest::Upgrade(_)
        | BootstrapRequest::CompareLogin(_)
        | BootstrapRequest::HandOver(_) => Err(host_unfit("wrong role", "this is a relay and not an agent")),
    };
    codec::write(&mut stream, &reply, limits::BOOTSTRAP_FRAME).await
}

#[cfg(test)]
mod tests;
