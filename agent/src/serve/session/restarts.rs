//! Watches the workload of a session: when somebody else restarts what it runs in, it is taken up again.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::Session;
use crate::{
    serve::context::Context,
    workload::{EventSink, RunningWorkload},
};

/// Pause after a failure to take up a restarted workload, and between restarts that follow each other closely: at first,
/// and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

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
