//! The workload that a client started, and what it is told of it.

use std::sync::Arc;

use jq_common::protocol::{
    topics::{WorkloadState, WorkloadStatus},
    workload::WorkloadSpec,
};

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
}

impl Workload {
    /// It runs now.
    pub(super) fn runs(&mut self, started: &Started) {
        self.running = Some(started.running.clone());
        self.restoring = false;
        self.engine.clone_from(&started.ready.engine);
        let container = started.ready.container.as_ref();
        self.container = container.map(|container| container.name.clone());
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
        }
    }
}
