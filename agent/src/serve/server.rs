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
    upgrade::Upgrade,
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

impl Server {
    /// Takes the lock, the control socket and a UDP port.
    ///
    /// # Errors
    /// Any [`StartError`]. Must be called within a tokio runtime.
    pub fn bind(folder: &RunDir, host: HostContext) -> Result<Self, StartError> {
        let sockets = RoleSockets::bind(folder)?;
        let identity = Identity::generate()?;
        let (certificate, key) = identity.parts();
        let head = Header {
            certificate: certificate.to_vec(),
            key: key.to_vec(),
            reset_secret: random()?,
            boot: random()?,
            linger_s: idle_shutdown::DEFAULT_LINGER.as_secs(),
            allowed: Vec::new(),
            sessions: Vec::new(),
        };
        let mut server = Self::restore(Snapshot::new(head, sockets.udp, sockets.lock), host)?;
        server.controls.push(sockets.control);
        Ok(server)
    }

    /// Goes on where the program that ran in this process before left everything, and tells who asked for it.
    ///
    /// # Errors
    /// Any [`StartError`]. Must be called within a tokio runtime, before anything else has been opened.
    pub async fn inherit(folder: &RunDir, host: HostContext) -> Result<Self, StartError> {
        let children = handover::children();
        let mut snapshot = handover::inherit().map_err(StartError::Inherit)?;
        let asker = snapshot.asker.take();
        let mut server = Self::restore(snapshot, host)?;
        let control = folder.listen().map_err(StartError::Folder)?;
        server.controls.push(control);
        if let Some(asker) = asker {
            asker.set_nonblocking(true).map_err(StartError::Folder)?;
            let asker = UnixStream::from_std(asker).map_err(StartError::Folder)?;
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

    fn restore(snapshot: Snapshot, host: HostContext) -> Result<Self, StartError> {
        let Snapshot { head, udp, .. } = snapshot;
        let identity = Identity::from_parts(head.certificate, head.key)
            .ok_or_else(|| StartError::Inherit(io::ErrorKind::InvalidData.into()))?;
        let allowed = AllowedClients::default();
        head.allowed.into_iter().for_each(|client| allowed.allow(client));
        let quic = AgentSettings::new(&identity, allowed.clone(), &head.reset_secret)?;
        let port = udp.local_addr().map_err(StartError::Udp)?.port();
        let kept = udp.try_clone().map_err(StartError::Udp)?;
        let carrier = PausableSocket::new(UdpCarrier::new(udp).map_err(StartError::Udp)?);
        let endpoint = quic.endpoint_on(carrier.clone(), CarrierKind::Udp)?;
        let controls = snapshot.controls.into_iter().map(|control| {
            control.set_nonblocking(true)?;
            UnixListener::from_std(control)
        });
        let controls = controls.collect::<io::Result<_>>().map_err(StartError::Folder)?;
        let (asked, upgrades) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            identity,
            allowed,
            reset_secret: head.reset_secret,
            quic,
            pipes: Arc::new(Semaphore::new(control::PIPES)),
            context: Arc::new(Context {
                workloads: Workloads::new(host.clone()),
                work: TaskTracker::new(),
                quiesce: Quiesce::default(),
                idle: IdleShutdown::new(Duration::from_secs(head.linger_s)),
            }),
            sessions: Sessions::new(head.boot),
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
                .adopt(|budget| Session::restore(&shared.context, budget, state, &mut sockets, &mut held));
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
            () = self.shared.context.idle.ended() => tracing::info!("nobody was connected for long enough"),
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
    pub async fn make_way(self, upgrade: Upgrade) -> Result<Self, StartError> {
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
        let controls = controls.collect::<io::Result<_>>().map_err(StartError::Folder)?;
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
            let failure = host_unfit("the agent stays as it is", error);
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
        self.shared.context.work.close();
        within("clients", self.tasks.wait()).await;
        within("work", self.shared.context.work.wait()).await;
        within("helpers", self.shared.context.workloads.shutdown()).await;
        within("farewells", self.endpoint.wait_idle()).await;
    }
}
