//! Runs a session from the login to its end.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jq_common::protocol::{
    topics::WorkloadStatus,
    workload::{Ready, WorkloadSpec},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    forwards::{ForwardActor, Forwards},
    local_api::{self, LocalApi},
    ports::{self, PortPlan},
    workload::Workload,
};
use crate::{
    connection::{
        establish::{self, Client},
        route::Route,
        supervise::SupervisedConnection,
        wakeup::Triggers,
    },
    error::{Failure, Kind},
    reporter::Reporter,
    resumable_session::{Events, Session},
    state::{Folders, PortsFile},
    status::{Opened, Port, Snapshot, Status},
};

/// Description of a session.
#[derive(Clone, Debug)]
pub(crate) struct SessionPlan {
    /// Its name.
    pub(crate) name: String,
    /// The host, and the options for the route to it.
    pub(crate) route: Route,
    /// How long the agent keeps running, and keeps the session, without a client.
    pub(crate) linger: Duration,
    /// Whether streams may be compressed.
    pub(crate) compression: bool,
    /// The container and Jupyter.
    pub(crate) workload: WorkloadSpec,
    /// The forwarded ports.
    pub(crate) ports: PortPlan,
    /// Folders for files and sockets.
    pub(crate) folders: Folders,
    /// Whether standard error is a terminal.
    pub(crate) terminal: bool,
}

/// A connected session whose workload has been requested.
pub(crate) struct RunningSession {
    plan: SessionPlan,
    session: Arc<Session>,
    connection: SupervisedConnection,
    workload: Workload,
    requested: Events,
    reporter: Arc<dyn Reporter>,
}

impl RunningSession {
    /// Connects: with the resume ticket if the agent of the last run still answers, else over ssh. Dropping the future
    /// disconnects.
    ///
    /// # Errors
    /// What failed, on which host, and what to do.
    pub(crate) async fn connect(plan: SessionPlan, reporter: Arc<dyn Reporter>) -> Result<Self, Failure> {
        let session = Session::new(plan.linger, plan.compression)
            .map_err(|error| Failure::new(Kind::Local, "cannot create a session").because(error))?;
        let workload = Workload {
            session: session.clone(),
            spec: plan.workload.clone(),
            host: plan.route.target.to_string(),
            reporter: reporter.clone(),
        };
        // Requested before there is a connection, so that it is sent with the first packets.
        let requested = workload.request()?;
        let client = Client {
            session: session.clone(),
            name: &plan.name,
            folders: &plan.folders,
            linger: plan.linger,
            terminal: plan.terminal,
        };
        let established = establish::establish(client, &plan.route, reporter.clone()).await?;
        let connection = SupervisedConnection::new(
            plan.route.target.to_string(),
            established.found,
            established.bootstrapper,
            established.tickets,
            Triggers::start(Vec::new()),
        );
        Ok(Self {
            plan,
            session,
            connection,
            workload,
            requested,
            reporter,
        })
    }

    /// Runs the session until `stop` is cancelled; then disconnects. `opened` is called once, when the workload runs and the
    /// ports are open. Dropping the future disconnects without notice to the agent.
    ///
    /// # Errors
    /// Why the session ended; [`Kind::Interrupted`] if `stop` was cancelled before `opened` was called.
    pub(crate) async fn run(
        self,
        stop: &CancellationToken,
        opened: impl FnOnce(&Opened),
    ) -> Result<(), Failure> {
        let Self {
            plan,
            session,
            mut connection,
            workload,
            requested,
            reporter,
        } = self;
        let updates = session.subscriptions().workload();
        let host = plan.route.target.to_string();
        let (actor, forwards) = ForwardActor::new(session, host, reporter.clone());
        let (status, poke, workload_gone) =
            (connection.status(), connection.poke(), connection.workload_gone());
        let is_open = AtomicBool::new(false);
        let work = async {
            let ready = workload.started(requested).await?;
            let summary = open(&plan, ready, &status, &forwards, &*reporter).await?;
            opened(&summary);
            is_open.store(true, Ordering::Relaxed);
            let newest = Newest {
                status: status.clone(),
                workload: updates,
                ports: forwards.list(),
            };
            let api = api(&plan, &summary, newest, poke, &*reporter);
            tokio::select! {
                () = show(status.clone(), &*reporter) => {
                    Err(Failure::new(Kind::Local, "the connection is no longer watched"))
                }
                failure = workload.restart(&workload_gone) => Err(failure),
                // The session continues without the local API.
                () = async { api.await; pending().await } => Ok(()),
            }
        };
        let ended = tokio::select! {
            failure = connection.run() => Err(failure),
            ended = work => ended,
            never = actor.run() => match never {},
            () = stop.cancelled() => {
                if is_open.load(Ordering::Relaxed) { Ok(()) } else { Err(Failure::interrupted()) }
            }
        };
        connection.leave().await;
        ended
    }
}

/// Opens the ports of a running workload.
async fn open(
    plan: &SessionPlan,
    ready: Ready,
    status: &watch::Receiver<Status>,
    forwards: &Forwards,
    reporter: &dyn Reporter,
) -> Result<Opened, Failure> {
    let file = PortsFile::new(&plan.folders, &plan.name);
    let ports = ports::open(&plan.ports, &ready, &file, forwards, reporter).await?;
    let url = ports
        .jupyter
        .zip(ready.jupyter.as_ref())
        .map(|(port, jupyter)| ports::page(port, jupyter));
    let status = status.borrow();
    Ok(Opened {
        url,
        path: status.path.clone().unwrap_or_default(),
        round_trip: status.round_trip.unwrap_or_default(),
        jupyter_port: ports.jupyter,
        ports: others(&forwards.list().borrow(), ports.jupyter),
        ready,
    })
}

/// The forwarded ports besides Jupyter's.
fn others(ports: &[Port], jupyter: Option<u16>) -> Vec<Port> {
    let others = ports.iter().filter(|port| Some(port.local) != jupyter);
    others.cloned().collect()
}

/// Reports every change of the status. Returns when the connection is dropped.
async fn show(mut status: watch::Receiver<Status>, reporter: &dyn Reporter) {
    while status.changed().await.is_ok() {
        reporter.status(&status.borrow_and_update());
    }
}

/// Serves the local API while it is polled. Returns when that is not possible.
async fn api(
    plan: &SessionPlan,
    opened: &Opened,
    mut newest: Newest,
    poke: Arc<Notify>,
    reporter: &dyn Reporter,
) {
    let bound = LocalApi::bind(&local_api::folder(&plan.folders.runtime), &plan.name);
    let api = match bound {
        Ok(Some(api)) => api,
        Ok(None) => {
            return reporter.note(&format!(
                "another jq-client runs the session {}; `jq-client status` shows that one",
                plan.name
            ));
        }
        Err(error) => {
            return reporter.note(&format!("`jq-client status` will not show this session: {error}"));
        }
    };
    let (told, snapshots) = watch::channel(newest.snapshot(plan, opened));
    let update = async {
        while newest.changed().await.is_ok() {
            told.send_replace(newest.snapshot(plan, opened));
        }
    };
    tokio::select! {
        never = api.serve(snapshots, poke) => match never {},
        () = update => {}
    }
}

/// Values that change while a session runs.
struct Newest {
    status: watch::Receiver<Status>,
    workload: watch::Receiver<Option<WorkloadStatus>>,
    ports: watch::Receiver<Vec<Port>>,
}

impl Newest {
    /// Returns when one of them has changed; an error when none will change any more.
    async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        tokio::select! {
            changed = self.status.changed() => changed,
            changed = self.workload.changed() => changed,
            changed = self.ports.changed() => changed,
        }
    }

    fn snapshot(&mut self, plan: &SessionPlan, opened: &Opened) -> Snapshot {
        let ready = &opened.ready;
        Snapshot {
            session: plan.name.clone(),
            target: plan.route.target.to_string(),
            pid: std::process::id(),
            status: self.status.borrow_and_update().clone(),
            ports: others(&self.ports.borrow_and_update(), opened.jupyter_port),
            engine: ready.engine.clone(),
            container: ready.container.as_ref().map(|container| container.name.clone()),
            gpus: ready.gpus.clone(),
            workload: self.workload.borrow_and_update().clone(),
            url: opened.url.clone(),
        }
    }
}
