//! Starts the workloads of this agent's clients.

use std::sync::Arc;

use jq_common::protocol::workload::{Failure, FailureKind, WorkloadSpec};

use super::{
    EventSink, HostContext, RunningWorkload, Started,
    container::{
        helper::Helpers,
        run::{self, Run},
    },
    gpu::detect,
    process,
    select_engine::{self, Runner},
    validate,
};
use crate::failure::fail;
use crate::{keyed_mutex::KeyedMutex, session_store::SessionStore};

/// The workloads of this agent's clients.
pub(crate) struct Workloads {
    host: Arc<HostContext>,
    store: SessionStore,
    helpers: Arc<Helpers>,
    /// Serialises the starts of each session name.
    sessions: KeyedMutex,
}

impl Workloads {
    /// Creates it without workloads. Does not touch the disk.
    #[must_use]
    pub(crate) fn new(host: HostContext) -> Self {
        let host = Arc::new(host);
        Self {
            store: SessionStore::new(&host.state_dir),
            helpers: Arc::new(Helpers::new(host.clone())),
            sessions: KeyedMutex::default(),
            host,
        }
    }

    /// Finds or starts a workload. Sends events as they happen, except the final one. Starts of the same session name
    /// wait for each other, also across agents of this user on this host.
    ///
    /// Dropping the future leaves what was done so far; the next start of the same name continues from there.
    ///
    /// # Errors
    /// The failure to show to the user. What was created for this request and cannot run has then been removed.
    pub(crate) async fn start(&self, spec: &WorkloadSpec, events: &EventSink) -> Result<Started, Failure> {
        validate::validate(spec)?;
        let entry = self.sessions.entry(&spec.session);
        let _in_this_agent = match entry.lock().try_lock() {
            Ok(held) => held,
            Err(_) => {
                events.step("waiting for an earlier start of this session").await;
                entry.lock().lock().await
            }
        };
        let locked = events
            .waiting(
                "waiting for another agent of yours, which is starting this session",
                self.store.lock(&spec.session),
            )
            .await;
        let _in_all_agents = locked.map_err(|error| {
            fail(
                FailureKind::HostUnfit,
                "cannot keep this session's state",
                format!("{}: {error}", self.host.state_dir.display()),
                "free some space there, or make it writable for you",
            )
        })?;
        match select_engine::select(&self.host, &self.store, spec, events).await? {
            Runner::Engine(engine) => {
                let gpus = events
                    .waiting(
                        "asking nvidia-smi for the host's GPUs",
                        detect::of_host(&spec.gpus, &self.host.path),
                    )
                    .await;
                let run = Run {
                    engine,
                    host: &self.host,
                    store: &self.store,
                    access: &*self.helpers,
                    gpus: &gpus,
                    spec,
                    events,
                };
                Box::pin(run.container()).await
            }
            Runner::Process => Box::pin(process::start(&self.host, &self.store, spec, events)).await,
        }
    }

    /// Finds a workload that was started before, as it is now: in a container or not. Starts, pulls and creates nothing;
    /// what the user has stopped stays as it is.
    ///
    /// # Errors
    /// Why it cannot be reached at present.
    pub(crate) async fn find(
        &self,
        spec: &WorkloadSpec,
        in_container: bool,
    ) -> Result<Arc<dyn RunningWorkload>, Failure> {
        if !in_container {
            return Ok(process::find(&self.host, &self.store, spec));
        }
        let engine = select_engine::find(&self.host, &self.store, spec).await?;
        run::find(engine, &self.host, &self.store, &*self.helpers, spec).await
    }

    /// Removes the helper containers of this agent and nothing else: containers, processes and their kernels keep
    /// running.
    pub(crate) async fn shutdown(&self) {
        self.helpers.remove_all().await;
    }
}
