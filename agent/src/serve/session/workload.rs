//! The workload that a client started, and what it is told of it.

use std::{sync::Arc, time::Duration};

use jq_common::protocol::{
    topics::{WorkloadState, WorkloadStatus},
    workload::WorkloadSpec,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Session;
use crate::{
    serve::context::Context,
    workload::{EventSink, RunningWorkload, Started},
};

/// Pause after a failure to take up a restarted workload, and between restarts that follow each other closely: at first,
/// and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

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
    fn runs_again(&mut self, started: &Started) {
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

impl Session {
    /// Watches a workload that has started: when somebody else restarts what it runs in, it is taken up again. The watch
    /// over an earlier workload ends.
    pub(super) fn watch(self: &Arc<Self>, context: &Arc<Context>) {
        let token = CancellationToken::new();
        let running = self.change_workload(|workload| {
            workload.watch = Some(token.clone().drop_guard());
            workload.running.clone()
        });
        let Some(running) = running else { return };
        let (session, context) = (self.clone(), context.clone());
        self.workers.spawn(async move {
            tokio::select! {
                () = session.follow(&context, running) => {}
                () = token.cancelled() => {}
                () = session.freezing.cancelled() => {}
                () = session.streams.ended() => {}
            }
        });
    }

    async fn follow(&self, context: &Context, mut running: Arc<dyn RunningWorkload>) {
        let (mut pause, longest) = PAUSES;
        loop {
            let began = Instant::now();
            running.restarted().await;
            // What is restarted again and again is not followed in a tight loop.
            if began.elapsed() < longest {
                sleep(pause).await;
                pause = (pause * 2).min(longest);
            } else {
                pause = PAUSES.0;
            }
            if let Some(again) = self.take_up(context).await {
                running = again;
            }
        }
    }

    /// Takes up a workload that was restarted. None when that fails.
    async fn take_up(&self, context: &Context) -> Option<Arc<dyn RunningWorkload>> {
        let spec = self.workload.borrow().spec.clone()?;
        let (events, _) = mpsc::channel(1);
        self.change_workload(|workload| workload.starting += 1);
        let started = context.workloads.start(&spec, &EventSink::new(events)).await;
        self.change_workload(|workload| {
            workload.starting -= 1;
            match started {
                Ok(started) => {
                    workload.runs_again(&started);
                    Some(started.running)
                }
                Err(failure) => {
                    tracing::warn!(?failure, "a restarted workload was not taken up");
                    None
                }
            }
        })
    }
}
