//! The role on the GPU host: lets clients in over QUIC and serves each until it leaves.

mod control;
mod dialer;
mod lifetime;
mod session;

use std::{fs::File, io, sync::Arc, time::Duration};

use jq_common::{
    identity::{AllowedClients, Identity},
    quic,
};
use quinn::{Endpoint, Incoming, VarInt};
use tokio::{net::UnixListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{lifetime::Lifetime, session::Session};
use crate::{
    rundir::RunDir,
    udp,
    workload::{HostContext, Workloads},
};

/// How many handshakes may be unfinished before a newcomer must prove its address (RFC 9000, section 8.1.2).
const HANDSHAKES: usize = 4;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How many may be unfinished at all; further ones get no answer.
const MOST_HANDSHAKES: usize = 64;

/// How long each stage of the end may take: resets to send, helpers to remove.
const GRACE: Duration = Duration::from_secs(5);

/// Why the role cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process of this role runs; it will answer.
    #[error("this agent runs already")]
    Running,
    /// The private folder, its lock or its socket.
    #[error("private folder: {0}")]
    Folder(#[source] io::Error),
    /// The certificate.
    #[error("certificate: {0}")]
    Identity(#[from] jq_common::identity::GenerateError),
    /// The UDP socket.
    #[error("UDP port: {0}")]
    Udp(#[source] io::Error),
    /// QUIC on it.
    #[error(transparent)]
    Endpoint(#[from] quic::EndpointError),
}

/// The running role.
pub struct Server {
    endpoint: Endpoint,
    control: UnixListener,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _lock: File,
}

/// What every task of the role needs.
struct Shared {
    identity: Identity,
    allowed: AllowedClients,
    lifetime: Lifetime,
    workloads: Arc<Workloads>,
    /// Work on workloads, which a client that leaves does not stop.
    work: TaskTracker,
    port: u16,
}

impl Server {
    /// Takes the lock, the control socket and a UDP port.
    ///
    /// # Errors
    /// Any [`BindError`]. Must be called within a tokio runtime.
    pub fn bind(folder: &RunDir, host: HostContext) -> Result<Self, BindError> {
        let lock = folder
            .lock()
            .map_err(BindError::Folder)?
            .ok_or(BindError::Running)?;
        let identity = Identity::generate()?;
        let allowed = AllowedClients::default();
        let socket = udp::bind().map_err(BindError::Udp)?;
        let port = socket.local_addr().map_err(BindError::Udp)?.port();
        let endpoint = quic::agent_endpoint(socket, &identity, allowed.clone())?;
        let control = folder.listen().map_err(BindError::Folder)?;
        let shared = Shared {
            identity,
            allowed,
            lifetime: Lifetime::default(),
            workloads: Arc::new(Workloads::new(host)),
            work: TaskTracker::new(),
            port,
        };
        tracing::info!(port, "listening");
        Ok(Self {
            endpoint,
            control,
            shared: Arc::new(shared),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            _lock: lock,
        })
    }

    /// Serves until nobody has been connected for as long as the last client wished.
    pub async fn join(&self) {
        tokio::select! {
            () = self.accept_clients() => {}
            () = control::accept(&self.control, &self.shared, &self.tasks, &self.stop) => {}
            () = self.shared.lifetime.ended() => tracing::info!("nobody was connected for long enough"),
        }
    }

    /// Ends in order: nobody is let in any more, streams reset, work done or cut, helpers removed. Each has its time, so
    /// that none keeps the next from its own. Containers and Jupyter go on.
    pub async fn shutdown(self) {
        drop(self.control);
        self.stop.cancel();
        self.endpoint.close(VarInt::from_u32(0), b"agent ends");
        self.tasks.close();
        self.shared.work.close();
        within("clients", self.tasks.wait()).await;
        within("work", self.shared.work.wait()).await;
        within("helpers", self.shared.workloads.shutdown()).await;
        within("farewells", self.endpoint.wait_idle()).await;
    }

    async fn accept_clients(&self) {
        let unfinished = TaskTracker::new();
        while let Some(incoming) = self.endpoint.accept().await {
            if unfinished.len() >= MOST_HANDSHAKES {
                incoming.ignore();
                continue;
            }
            if unfinished.len() >= HANDSHAKES && incoming.may_retry() {
                // Fails only for an address that is proven already.
                let _ = incoming.retry();
                continue;
            }
            let handshake = unfinished.token();
            let (shared, stop) = (self.shared.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                let connection = timeout(HANDSHAKE, accept(incoming)).await;
                drop(handshake);
                match connection {
                    Ok(Ok(connection)) => Session::new(connection, shared).run(stop).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a client was not let in"),
                    Err(_) => tracing::debug!("a client's handshake took too long"),
                }
            });
        }
    }
}

async fn within(stage: &str, ended: impl Future<Output = ()>) {
    if timeout(GRACE, ended).await.is_err() {
        tracing::warn!(stage, "did not end in time");
    }
}

async fn accept(incoming: Incoming) -> Result<quinn::Connection, quinn::ConnectionError> {
    incoming.accept()?.await
}
