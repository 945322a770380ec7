//! The workloads of this agent's clients.

use std::sync::Arc;

use jq_common::protocol::workload::{Failure, FailureKind, WorkloadSpec};

use super::{
    EventSink, HostContext, Started,
    container::{helper::Helpers, run::Run},
    gpu::detect,
    process,
    select_engine::{self, Choice},
    validate,
};
use crate::failure::fail;
use crate::{keyed_mutex::KeyedMutex, session_store::SessionStore};

/// The workloads of this agent's clients.
pub(crate) struct Workloads {
    host: Arc<HostContext>,
    store: SessionStore,
    helpers: Arc<Helpers>,
    /// One start at a time for each session.
    sessions: KeyedMutex,
}

impl Workloads {
    /// Without any workload yet. Makes nothing on disk.
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

    /// Finds or makes the workload. Events are sent as they happen, but not the final one. Starts of the same session
    /// wait for each other, also between agents of this user on this host.
    ///
    /// Dropping the future leaves what was done so far; the next start of the session takes it from there.
    ///
    /// # Errors
    /// What the user is told. What was made for this request and cannot run has then been removed.
    pub(crate) async fn start(&self, spec: &WorkloadSpec, events: &EventSink) -> Result<Started, Failure> {
        validate::check(spec)?;
        let turn = self.sessions.queue(&spec.session);
        let _here = match turn.lock().try_lock() {
            Ok(held) => held,
            Err(_) => {
                events.step("waiting for an earlier start of this session").await;
                turn.lock().lock().await
            }
        };
        let _everywhere = self.store.lock(&spec.session).await.map_err(|error| {
            fail(
                FailureKind::HostUnfit,
                "cannot keep this session's state",
                format!("{}: {error}", self.host.state_dir.display()),
                "free some space there, or make it writable for you",
            )
        })?;
        match select_engine::choose(&self.host, &self.store, spec, events).await? {
            Choice::Engine(engine) => {
                let gpus = detect::of_host(&spec.gpus, &self.host.path).await;
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
            Choice::Process => Box::pin(process::start(&self.host, &self.store, spec, events)).await,
        }
    }

    /// Removes the helpers that this agent started, and nothing else: containers, processes and their kernels go on.
    pub(crate) async fn shutdown(&self) {
        self.helpers.remove_all().await;
    }
}
