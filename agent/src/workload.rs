//! The workload that a client asked for: found or made, with Jupyter in it, and a way into its network.
//!
//! `plan` compares what was asked for with what is there and says what to do; `run` does it. The rest of the folder are
//! the rules, most of them plain functions.

mod check;
mod choose;
mod container;
mod events;
mod failure;
mod gpus;
mod helper;
mod jupyter_wait;
mod network;
mod options;
mod ours;
mod passwd;
mod plan;
mod probe;
mod process;
mod run;
mod store;
mod turns;
mod user;
mod volumes;

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use jq_common::protocol::workload::{Failure, FailureKind, Ready, WorkloadSpec};

use self::{choose::Choice, failure::fail, helper::Helpers, store::Store, turns::Turns};
pub use self::{events::EventSink, network::Network};

/// What is known about the host and the user on it. Read once, from outside; nothing here reads the environment.
#[derive(Clone, Debug)]
pub struct HostContext {
    /// The user's home.
    pub home: PathBuf,
    /// The user's id.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// The user's name.
    pub user: String,
    /// `PATH`.
    pub path: OsString,
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `DOCKER_CONFIG`; none for `~/.docker`.
    pub docker_config: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// Private (0700), outlives agents: tokens, records of containers and processes.
    pub state_dir: PathBuf,
    /// Private (0700), this agent's.
    pub run_dir: PathBuf,
    /// This very program, for the helper's image.
    pub agent_binary: PathBuf,
}

/// The workloads of this agent's clients.
pub struct Workloads {
    host: Arc<HostContext>,
    store: Store,
    helpers: Arc<Helpers>,
    /// One start at a time for each session.
    sessions: Turns,
}

/// A workload that runs.
pub struct Started {
    /// What the client is told.
    pub ready: Ready,
    /// The way into its network.
    pub network: Arc<Network>,
}

impl Workloads {
    /// Without any workload yet. Makes nothing on disk.
    #[must_use]
    pub fn new(host: HostContext) -> Self {
        let host = Arc::new(host);
        Self {
            store: Store::new(&host.state_dir),
            helpers: Arc::new(Helpers::new(host.clone())),
            sessions: Turns::default(),
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
    pub async fn start(&self, spec: &WorkloadSpec, events: &EventSink) -> Result<Started, Failure> {
        check::check(spec)?;
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
        match choose::choose(&self.host, &self.store, spec, events).await? {
            Choice::Engine(engine) => {
                let gpus = gpus::of_host(&spec.gpus, &self.host.path).await;
                let run = run::Run {
                    engine,
                    host: &self.host,
                    store: &self.store,
                    networks: &*self.helpers,
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
    pub async fn shutdown(&self) {
        self.helpers.remove_all().await;
    }
}
