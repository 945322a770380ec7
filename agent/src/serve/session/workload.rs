//! The workload that a client started, and what it is told of it.

use std::sync::Arc;

use jq_common::protocol::{
    topics::{WorkloadState, WorkloadStatus},
    workload::WorkloadSpec,
};
use tokio_util::sync::DropGuard;

use crate::workload::{RunningWorkload, Started};

/// The workload that a client started.
#[derive(Default)]
pub(super) struct Workload {
    /// As it was asked for, once it has started.
    pub(super) spec: Option<WorkloadSpec>,
    pub(super) running: Option<Arc<dyn RunningWorkload>>,
    /// It is being found again, after an upgrade.
    pub(super) restoring: bool,
    /// How many starts are in progress.
    pub(super) starting: usize,
    /// The engine that runs it, for the user.
    pub(super) engine: String,
    /// The container's name; none without one.
    pub(super) container: Option<String>,
    /// Jupyter's port in it; none without Jupyter.
    pub(super) jupyter: Option<u16>,
    /// How often it was restarted by somebody else and taken up again, and what is to be said of the last time.
    pub(super) restarts: u32,
    pub(super) note: String,
    /// Ends the watch for its restart.
    pub(super) watch: Option<DropGuard>,
}

impl Workload {
    /// It runs now.
    pub(super) fn runs(&mut self, started: &Started) {
        self.running = Some(started.running.clone());
        self.restoring = false;
        self.engine.clone_from(&started.ready.engine);
        let container = started.ready.container.as_ref();
        self.container = container.map(|container| container.name.clone());
        self.jupyter = started.ready.jupyter.as_ref().map(|jupyter| jupyter.port);
    }

    /// It was restarted by somebody else, and runs again.
    pub(super) fn runs_again(&mut self, started: &Started) {
        let before = self.jupyter;
        self.runs(started);
        let name = self.container.as_deref().unwrap_or_default();
        let jupyter = match (before, self.jupyter) {
            (Some(before), Some(now)) if before == now => "; Jupyter runs in it again, on the same port",
            (_, Some(_)) => {
                "; Jupyter runs in it again, on another port: run the same command again to reach it"
            }
            (_, None) => "",
        };
        self.restarts += 1;
        self.note = format!("the container {name} was restarted{jupyter}");
    }

    /// What the client is told.
    pub(super) fn status(&self) -> WorkloadStatus {
        let state = match (&self.spec, &self.running) {
            _ if self.starting > 0 => WorkloadState::Starting,
            (None, _) => WorkloadState::None,
            (Some(_), Some(_)) => WorkloadState::Running,
            (Some(_), None) => WorkloadState::Restoring,
        };
        WorkloadStatus {
            state,
            engine: self.engine.clone(),
            container: self.container.clone(),
            restarts: self.restarts,
            note: self.note.clone(),
        }
    }
}
