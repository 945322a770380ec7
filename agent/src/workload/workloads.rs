//! Starts the workloads of this agent's clients.

use std::{io, pin::pin, sync::Arc, time::Duration};

use jq_common::protocol::workload::{Failure, FailureKind, WorkloadSpec};
use tokio::time::{Instant, sleep, timeout};

use super::{
    EventSink, HostContext, RunningWorkload, Started,
    container::{
        helper::Helpers,
        run::{self, Run},
    },
    gpu::detect,
    jupyter::{self, probe},
    process,
    select_engine::{self, Runner},
    validate,
};
use crate::{
    failure::fail,
    keyed_mutex::KeyedMutex,
    session_store::{SessionLock, SessionStore},
};

/// Interval between attempts to take a session's lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

/// How long a wait lasts before it is shown.
const SAID_AFTER: Duration = Duration::from_secs(2);

/// Longest wait for another agent: an image may be pulled meanwhile.
const LONGEST_START: Duration = Duration::from_secs(3600);

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
        let _in_all_agents = self.lock(&spec.session, events).await.map_err(|error| {
            fail(
                FailureKind::HostUnfit,
                "cannot keep this session's state",
                format!("{}: {error}", self.host.state_dir.display()),
                "free some space there, or make it writable for you",
            )
        })?;
        let mut started = match select_engine::select(&self.host, &self.store, spec, events).await? {
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
                Box::pin(run.container()).await?
            }
            Runner::Process => Box::pin(process::start(&self.host, &self.store, spec, events)).await?,
        };
        if let Some(jupyter) = &mut started.ready.jupyter {
            // One of an earlier build does not know the name.
            let host = jupyter::local_host(&spec.session);
            let answers = probe::answers_as(&*started.running, jupyter.port, &host).await;
            jupyter.host = answers.then_some(host);
        }
        Ok(started)
    }

    /// Waits until no other agent of this user on this host is starting the session's workload, and says what is waited for.
    async fn lock(&self, session: &str, events: &EventSink) -> io::Result<SessionLock> {
        let begin = Instant::now();
        let mut is_said = false;
        while begin.elapsed() < LONGEST_START {
            let mut tried = pin!(self.store.try_lock(session));
            let tried = match timeout(SAID_AFTER, &mut tried).await {
                Ok(tried) => tried,
                Err(_) => {
                    let folder = self.host.state_dir.display();
                    events
                        .step(format!("waiting for the host's file system, for {folder}"))
                        .await;
                    tried.await
                }
            };
            if let Some(lock) = tried? {
                return Ok(lock);
            }
            if !is_said && begin.elapsed() >= SAID_AFTER {
                is_said = true;
                events
                    .step("waiting for another agent of yours on this host, which is starting this session")
                    .await;
            }
            sleep(LOCK_INTERVAL).await;
        }
        let why = "another agent of yours on this host has been starting this session for an hour";
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
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
            return Ok(process::find(&self.host, &self.store, spec).await);
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

#[cfg(test)]
mod tests {
    use jq_common::protocol::workload::Event;
    use tokio::sync::mpsc;

    use super::*;
    use crate::workload::fixtures;

    #[tokio::test]
    async fn a_wait_for_another_agent_is_shown_and_ends_with_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let workloads = Workloads::new(HostContext {
            state_dir: dir.path().to_owned(),
            ..fixtures::host()
        });
        let (sender, mut events) = mpsc::channel(4);
        let sink = EventSink::new(sender);
        let other = workloads.store.try_lock("a").await.unwrap();
        assert!(other.is_some());
        let shown = async {
            let Some(Event::Step(step)) = events.recv().await else {
                panic!("nothing is shown")
            };
            drop(other);
            step
        };
        let (locked, step) = tokio::join!(workloads.lock("a", &sink), shown);
        assert!(locked.is_ok());
        assert!(step.contains("another agent of yours"), "{step}");
        assert!(
            workloads.store.try_lock("a").await.unwrap().is_none(),
            "it is held"
        );
    }
}
