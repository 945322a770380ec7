//! The role on the GPU host: lets clients in over QUIC and serves each until it leaves.

mod attachment;
mod control;
mod dialer;
pub(crate) mod handover;
mod idle_shutdown;
mod pausable_socket;
mod quiesce;
mod session;
mod sessions;
mod subscriptions;

use std::{
    fs::File,
    io,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use jq_common::{
    carrier::udp::UdpCarrier,
    identity::{AllowedClients, Identity},
    quic::{self, AgentSettings, CarrierKind},
};
use quinn::{Endpoint, Incoming, VarInt};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::handover::Upgrade;
use self::{
    handover::snapshot::{Header, Snapshot},
    idle_shutdown::IdleShutdown,
    pausable_socket::PausableSocket,
    quiesce::Quiesce,
    session::Session,
    sessions::Sessions,
};
use crate::{
    bootstrap::failed,
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

/// How many pipes of packets may be open at once, each an SSH channel of a client. Every client that connects has one until
/// UDP is found to work.
const PIPES: usize = 64;

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
    /// The system gives no randomness.
    #[error("randomness: {0}")]
    Random(String),
    /// The program before left something else than expected.
    #[error("what the program before left: {0}")]
    Inherit(#[source] io::Error),
    /// QUIC on it.
    #[error(transparent)]
    Endpoint(#[from] quic::EndpointError),
}

/// The running role.
pub struct Server {
    endpoint: Endpoint,
    /// What `endpoint` reads from and sends by.
    carrier: Arc<PausableSocket>,
    udp: UdpSocket,
    /// The control sockets: this build's, and those of builds whose place it took.
    controls: Vec<UnixListener>,
    locks: Vec<File>,
    shared: Arc<Shared>,
    upgrades: mpsc::Receiver<Upgrade>,
    tasks: TaskTracker,
    stop: CancellationToken,
    host: HostContext,
}

/// Why a server does not serve any more.
pub enum Served {
    /// Nobody was connected for as long as the last client wished.
    Alone,
    /// Another build is to take over.
    Replaced(Upgrade),
}

/// What every task of the role needs.
struct Shared {
    identity: Identity,
    allowed: AllowedClients,
    reset_secret: [u8; 32],
    quic: AgentSettings,
    /// Permits to open a pipe of packets.
    pipes: Arc<Semaphore>,
    idle_shutdown: IdleShutdown,
    sessions: Sessions,
    workloads: Workloads,
    /// Work on workloads, which a client that leaves does not stop.
    work: TaskTracker,
    /// Closed while an upgrade is near: what needs a workload's network waits for the successor.
    quiesce: Quiesce,
    upgrades: mpsc::Sender<Upgrade>,
    /// An upgrade has failed: there is no other.
    stays: AtomicBool,
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
        let (certificate, key) = identity.parts();
        let random = |error: getrandom::Error| BindError::Random(error.to_string());
        let head = Header {
            certificate: certificate.to_vec(),
            key: key.to_vec(),
            reset_secret: jq_common::bootstrap::random().map_err(random)?,
            boot: jq_common::bootstrap::random().map_err(random)?,
            linger_s: idle_shutdown::DEFAULT_LINGER.as_secs(),
            allowed: Vec::new(),
            sessions: Vec::new(),
        };
        let udp = udp::bind().map_err(BindError::Udp)?;
        let mut server = Self::restore(Snapshot::new(head, udp, lock), host)?;
        let control = folder.listen().map_err(BindError::Folder)?;
        server.controls.push(control);
        Ok(server)
    }

    /// Goes on where the program that ran in this process before left everything, and tells who asked for it.
    ///
    /// # Errors
    /// Any [`BindError`]. Must be called within a tokio runtime, before anything else has been opened.
    pub async fn inherit(folder: &RunDir, host: HostContext) -> Result<Self, BindError> {
        let children = handover::children();
        let mut snapshot = handover::inherit().map_err(BindError::Inherit)?;
        let asker = snapshot.asker.take();
        let mut server = Self::restore(snapshot, host)?;
        let control = folder.listen().map_err(BindError::Folder)?;
        server.controls.push(control);
        if let Some(asker) = asker {
            asker.set_nonblocking(true).map_err(BindError::Folder)?;
            let asker = UnixStream::from_std(asker).map_err(BindError::Folder)?;
            handover::answer(asker, &Ok(control::started(&server.shared))).await;
        }
        let stop = server.stop.clone();
        server.tasks.spawn(async move {
            if let Some(Err(error)) = stop.run_until_cancelled(handover::reap(children)).await {
                tracing::warn!(%error, "children of the program before");
            }
        });
        Ok(server)
    }

    fn restore(snapshot: Snapshot, host: HostContext) -> Result<Self, BindError> {
        let Snapshot { head, udp, .. } = snapshot;
        let identity = Identity::from_parts(head.certificate, head.key)
            .ok_or_else(|| BindError::Inherit(io::ErrorKind::InvalidData.into()))?;
        let allowed = AllowedClients::default();
        head.allowed.into_iter().for_each(|client| allowed.allow(client));
        let quic = AgentSettings::new(&identity, allowed.clone(), &head.reset_secret)?;
        let port = udp.local_addr().map_err(BindError::Udp)?.port();
        let kept = udp.try_clone().map_err(BindError::Udp)?;
        let carrier = PausableSocket::new(UdpCarrier::new(udp).map_err(BindError::Udp)?);
        let endpoint = quic.endpoint_on(carrier.clone(), CarrierKind::Udp)?;
        let controls = snapshot.controls.into_iter().map(|control| {
            control.set_nonblocking(true)?;
            UnixListener::from_std(control)
        });
        let controls = controls.collect::<io::Result<_>>().map_err(BindError::Folder)?;
        let (asked, upgrades) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            identity,
            allowed,
            reset_secret: head.reset_secret,
            quic,
            pipes: Arc::new(Semaphore::new(PIPES)),
            idle_shutdown: IdleShutdown::new(Duration::from_secs(head.linger_s)),
            sessions: Sessions::new(head.boot),
            workloads: Workloads::new(host.clone()),
            work: TaskTracker::new(),
            quiesce: Quiesce::default(),
            upgrades: asked,
            stays: AtomicBool::new(false),
            port,
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut sockets = snapshot.sockets.into_iter();
        let mut held = snapshot.held.into_iter();
        for state in head.sessions {
            let kept = (state.generation, Duration::from_secs(state.keep_s));
            let session = shared
                .sessions
                .adopt(|budget| Session::restore(&shared, budget, state, &mut sockets, &mut held));
            tasks.spawn(attachment::keep(session, kept, shared.clone(), stop.clone()));
        }
        tracing::info!(port, sessions = shared.sessions.all().len(), "listening");
        Ok(Self {
            endpoint,
            carrier,
            udp: kept,
            controls,
            locks: snapshot.locks,
            shared,
            upgrades,
            tasks,
            stop,
            host,
        })
    }

    /// Serves until nobody has been connected for as long as the last client wished, or another build takes over.
    pub async fn join(&mut self) -> Served {
        let controls = self.controls.iter();
        let controls = controls.map(|socket| control::accept(socket, &self.shared, &self.tasks, &self.stop));
        tokio::select! {
            () = accept_clients(&self.endpoint, &self.shared, &self.tasks, &self.stop) => {}
            _ = join_all(controls) => {}
            () = self.shared.idle_shutdown.ended() => tracing::info!("nobody was connected for long enough"),
            Some(upgrade) = self.upgrades.recv() => return Served::Replaced(upgrade),
        }
        Served::Alone
    }

    /// Makes way: this process goes on with the successor's program, which has everything of this one. Returns only when
    /// the system does not start that. Everything is then restored here, as the successor would have done, so that
    /// sessions and their streams live on just as well.
    ///
    /// # Errors
    /// When there is no going on: the system lacks descriptors or memory.
    pub async fn make_way(self, upgrade: Upgrade) -> Result<Self, BindError> {
        let Self {
            endpoint,
            carrier,
            udp,
            controls,
            locks,
            shared,
            upgrades,
            tasks,
            stop,
            host,
        } = self;
        tracing::info!("making way for another build");
        carrier.pause();
        let controls = controls.into_iter().map(UnixListener::into_std);
        let controls = controls.collect::<io::Result<_>>().map_err(BindError::Folder)?;
        let rest = handover::Rest { udp, locks, controls };
        let mut snapshot = handover::close(&shared, rest).await;
        let (error, asker) = handover::become_successor(upgrade, &mut snapshot);
        tracing::error!(%error, "the successor does not start");

        stop.cancel();
        tasks.close();
        within("clients", tasks.wait()).await;
        drop((endpoint, carrier, shared, upgrades));
        let server = Self::restore(snapshot, host)?;
        server.shared.stays.store(true, Ordering::Relaxed);
        if let Some(asker) = asker {
            let failure = failed("the agent stays as it is", error);
            handover::answer(asker, &Err(failure)).await;
        }
        Ok(server)
    }

    /// Ends in order: nobody is let in any more, streams reset, work done or cut, helpers removed. Each has its time, so
    /// that none keeps the next from its own. Containers and Jupyter go on.
    pub async fn shutdown(self) {
        drop(self.controls);
        within("sessions", attachment::end_all(&self.shared)).await;
        self.stop.cancel();
        self.endpoint.close(VarInt::from_u32(0), b"agent ends");
        self.tasks.close();
        self.shared.work.close();
        within("clients", self.tasks.wait()).await;
        within("work", self.shared.work.wait()).await;
        within("helpers", self.shared.workloads.shutdown()).await;
        within("farewells", self.endpoint.wait_idle()).await;
    }
}

/// Lets in clients that come to `endpoint`, and serves each as one of `tasks` until it leaves or `stop` is cancelled.
/// Returns when the endpoint is closed.
async fn accept_clients(
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
            // Fails only for an address that is proven already.
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
                Ok(Err(error)) => tracing::debug!(%error, "a client was not let in"),
                Err(_) => tracing::debug!("a client's handshake took too long"),
            }
        });
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
