//! The running role: binds, serves, hands over to a successor, shuts down.

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
    quic::{AgentSettings, CarrierKind},
};
use quinn::{Endpoint, VarInt};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    accept::accept_clients,
    attachment,
    context::Context,
    control,
    handover::{self, Header, Snapshot},
    idle_shutdown::{self, IdleShutdown},
    pausable_socket::PausableSocket,
    quiesce::Quiesce,
    session::Session,
    sessions::Sessions,
    shared::Shared,
    stage::within,
    upgrade::{Successor, Upgrade},
};
use crate::{
    failure::host_unfit,
    role_start::{RoleSockets, StartError, random},
    rundir::RunDir,
    workload::{HostContext, Workloads},
};

/// The running role.
pub struct Server {
    endpoint: Endpoint,
    /// The socket of `endpoint`.
    carrier: Arc<PausableSocket>,
    udp: UdpSocket,
    /// Control sockets: of this build, and of builds that it replaced.
    controls: Vec<UnixListener>,
    locks: Vec<File>,
    shared: Arc<Shared>,
    upgrades: mpsc::Receiver<Upgrade>,
    tasks: TaskTracker,
    stop: CancellationToken,
    host: HostContext,
}

/// Why a server stopped serving.
pub enum Served {
    /// No client was connected for the linger time.
    Idle,
    /// A successor is to take over.
    Upgrade(Upgrade),
}

impl Server {
    /// Starts the role: takes the lock, a UDP port and the control socket.
    ///
    /// # Errors
    /// Any [`StartError`]. Must be called within a tokio runtime.
    pub fn bind(folder: &RunDir, host: HostContext) -> Result<Self, StartError> {
        let sockets = RoleSockets::bind(folder)?;
        let identity = Identity::generate()?;
        let (certificate, key) = identity.parts();
        let header = Header {
            certificate: certificate.to_vec(),
            key: key.to_vec(),
            reset_secret: random()?,
            boot: random()?,
            linger_s: idle_shutdown::DEFAULT_LINGER.as_secs(),
            umask: host.login.umask,
            allowed: Vec::new(),
            sessions: Vec::new(),
        };
        let mut server = Self::restore(Snapshot::new(header, sockets.udp, sockets.lock), host)?;
        server.controls.push(sockets.control);
        Ok(server)
    }

    /// Restores the agent from its predecessor's snapshot, and reports the result to the bootstrap that requested the
    /// upgrade.
    ///
    /// # Errors
    /// Any [`StartError`]. Must be called within a tokio runtime, before the process has opened any other descriptor.
    pub async fn inherit(folder: &RunDir, mut host: HostContext) -> Result<Self, StartError> {
        let children = handover::inherited_children();
        let mut snapshot = handover::receive_snapshot().map_err(StartError::Inherit)?;
        // This process has the umask of its predecessor and not that of the login.
        host.login.umask = snapshot.header.umask;
        let requester = snapshot.requester.take();
        let mut server = Self::restore(snapshot, host)?;
        let control = folder.listen().map_err(StartError::Folder)?;
        server.controls.push(control);
        if let Some(requester) = requester {
            requester.set_nonblocking(true).map_err(StartError::Folder)?;
            let requester = UnixStream::from_std(requester).map_err(StartError::Folder)?;
            handover::reply(requester, &Ok(control::address(&server.shared))).await;
        }
        let stop = server.stop.clone();
        server.tasks.spawn(async move {
            if let Some(Err(error)) = stop.run_until_cancelled(handover::reap(children)).await {
                tracing::warn!(%error, "cannot wait for inherited child processes");
            }
        });
        Ok(server)
    }

    /// Takes over from the agent that serves in `folder` and was started by an earlier login.
    ///
    /// # Errors
    /// [`StartError::Inherit`] when that agent goes on; any other [`StartError`] when this one cannot. Must be called
    /// within a tokio runtime.
    pub async fn take_over(folder: &RunDir, host: HostContext) -> Result<Self, StartError> {
        let taken = handover::take_from(folder).await.map_err(StartError::Inherit)?;
        let snapshot = taken.accept().await.map_err(StartError::Inherit)?;
        tracing::info!("took over from the agent of an earlier login");
        Self::restore(snapshot, host)
    }

    fn restore(snapshot: Snapshot, host: HostContext) -> Result<Self, StartError> {
        let Snapshot { header, udp, .. } = snapshot;
        let identity = Identity::from_parts(header.certificate, header.key)
            .ok_or_else(|| StartError::Inherit(io::ErrorKind::InvalidData.into()))?;
        let allowed = AllowedClients::default();
        header
            .allowed
            .into_iter()
            .for_each(|client| allowed.allow(client));
        let quic = AgentSettings::new(&identity, allowed.clone(), &header.reset_secret)?;
        let port = udp.local_addr().map_err(StartError::Udp)?.port();
        let udp_for_successor = udp.try_clone().map_err(StartError::Udp)?;
        let carrier = PausableSocket::new(UdpCarrier::new(udp).map_err(StartError::Udp)?);
        let endpoint = quic.endpoint_on(carrier.clone(), CarrierKind::Udp)?;
        let controls = snapshot.controls.into_iter().map(|control| {
            control.set_nonblocking(true)?;
            UnixListener::from_std(control)
        });
        let controls = controls.collect::<io::Result<_>>().map_err(StartError::Folder)?;
        let (requested, upgrades) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            identity,
            allowed,
            reset_secret: header.reset_secret,
            login: host.login.clone(),
            quic,
            tunnels: Arc::new(Semaphore::new(control::MOST_TUNNELS)),
            context: Arc::new(Context {
                workloads: Workloads::new(host.clone()),
                work: TaskTracker::new(),
                quiesce: Quiesce::default(),
                idle: IdleShutdown::new(Duration::from_secs(header.linger_s)),
            }),
            sessions: Sessions::new(header.boot),
            upgrades: requested,
            upgrade_failed: AtomicBool::new(false),
            port,
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut sockets = snapshot.sockets.into_iter();
        let mut send_buffers = snapshot.send_buffers.into_iter();
        for state in header.sessions {
            let detached = (state.generation, Duration::from_secs(state.keep_s));
            let session = shared.sessions.adopt(|budget| {
                Session::restore(&shared.context, budget, state, &mut sockets, &mut send_buffers)
            });
            tasks.spawn(attachment::keep_detached(
                session,
                detached,
                shared.clone(),
                stop.clone(),
            ));
        }
        tracing::info!(port, sessions = shared.sessions.all().len(), "listening");
        Ok(Self {
            endpoint,
            carrier,
            udp: udp_for_successor,
            controls,
            locks: snapshot.locks,
            shared,
            upgrades,
            tasks,
            stop,
            host,
        })
    }

    /// Serves until no client has been connected for the linger time, or another build takes over.
    pub async fn join(&mut self) -> Served {
        let controls = self.controls.iter();
        let controls = controls.map(|socket| control::accept(socket, &self.shared, &self.tasks, &self.stop));
        tokio::select! {
            () = accept_clients(&self.endpoint, &self.shared, &self.tasks, &self.stop) => {}
            _ = join_all(controls) => {}
            () = self.shared.context.idle.expired() => tracing::info!("no client was connected for the linger time"),
            Some(upgrade) = self.upgrades.recv() => return Served::Upgrade(upgrade),
        }
        Served::Idle
    }

    /// Hands over to a successor, which takes over everything. Another build is executed by this process, so that this does
    /// not return; None when the successor is another process: this one must end at once, without closing anything in
    /// order. When the successor fails, this program restores itself from the snapshot, as the successor would have, and
    /// all sessions and streams continue.
    ///
    /// # Errors
    ///
    /// When restoring fails too: the system lacks descriptors or memory.
    pub async fn hand_over(self, upgrade: Upgrade) -> Result<Option<Self>, StartError> {
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
        let Upgrade {
            requester,
            format,
            successor,
        } = upgrade;
        let is_build = matches!(successor, Successor::Program { .. });
        tracing::info!(is_build, "handing over");
        carrier.pause();
        let controls = controls.into_iter().map(UnixListener::into_std);
        let controls = controls.collect::<io::Result<_>>().map_err(StartError::Folder)?;
        let descriptors = handover::Descriptors { udp, locks, controls };
        let mut snapshot = handover::freeze_sessions(&shared, descriptors).await;
        let (error, requester) = match successor {
            Successor::Program { file, run_dir, lock } => {
                handover::execute_successor(requester, format, (file, run_dir, lock), &mut snapshot)
            }
            Successor::Process => match handover::pass_to(requester, &snapshot, format).await {
                Ok(()) => return Ok(None),
                Err(error) => (error, None),
            },
        };
        tracing::error!(%error, "the successor does not take over");

        stop.cancel();
        tasks.close();
        within("clients", tasks.wait()).await;
        drop((endpoint, carrier, shared, upgrades));
        let server = Self::restore(snapshot, host)?;
        // A build that cannot be executed is not tried again; another login's process may well take over.
        server.shared.upgrade_failed.store(is_build, Ordering::Relaxed);
        if let Some(requester) = requester {
            let failure = host_unfit("the agent stays as it is", error);
            handover::reply(requester, &Err(failure)).await;
        }
        Ok(Some(server))
    }

    /// Shuts down in order: stop accepting clients, reset streams, wait for work, remove helper containers. Each stage
    /// has its own time limit. Containers and Jupyter keep running.
    pub async fn shutdown(self) {
        drop(self.controls);
        within("sessions", attachment::end_all_sessions(&self.shared)).await;
        self.stop.cancel();
        self.endpoint.close(VarInt::from_u32(0), b"agent ends");
        self.tasks.close();
        self.shared.context.work.close();
        within("clients", self.tasks.wait()).await;
        within("work", self.shared.context.work.wait()).await;
        within("helper containers", self.shared.context.workloads.shutdown()).await;
        within("connection close", self.endpoint.wait_idle()).await;
    }
}
