//! The workload of a session: asks the agent to start it, and reports what the agent does until it runs.

use std::{convert::Infallible, sync::Arc, time::Duration};

use jq_common::protocol::workload::{Event, Ready, Request, WorkloadSpec};
use tokio::{
    select,
    sync::{Notify, watch},
    time::sleep,
};

use crate::{
    error::{Failure, Kind},
    reporter::{self, Reporter},
    resumable_session::{Events, RequestError, Session},
};

/// First pause between attempts to start the workload again. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause. The user may wait for an engine that they have just repaired.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The workload of a session.
pub(super) struct Workload {
    pub(super) session: Arc<Session>,
    pub(super) spec: WorkloadSpec,
    /// The host, as the user writes it.
    pub(super) host: String,
    pub(super) reporter: Arc<dyn Reporter>,
    /// Why it could not be started again so far; none while it runs or is being started.
    pub(super) failure: watch::Sender<Option<String>>,
}

impl Workload {
    /// Requests the workload from the current agent, or from the first one that the session is attached to.
    pub(super) fn request(&self) -> Result<Events, Failure> {
        self.session
            .request(Request::Start(Box::new(self.spec.clone())))
            .map_err(|error| Failure::new(Kind::Local, "cannot request the workload").because(error))
    }

    /// Follows a request until the workload runs.
    ///
    /// # Errors
    /// A failure that the agent reports, or [`Kind::ConnectionLost`] when the session was lost.
    pub(super) async fn started(&self, mut events: Events) -> Result<Ready, Failure> {
        let agent = self.session.known_by();
        let reporter = &*self.reporter;
        loop {
            match events.next().await.map_err(|error| self.broken(&error))? {
                Event::Step(text) => reporter.step(&self.host, &text),
                Event::Progress(progress) => reporter.report(reporter::Event::Progress {
                    host: &self.host,
                    progress: &progress,
                }),
                Event::Note(text) => reporter.note(&text),
                Event::Warning(text) => reporter.warning(&text),
                Event::Ready(ready) => {
                    self.session.serve(agent);
                    return Ok(*ready);
                }
                Event::Failed(failure) => return Err(Failure::of_agent(&self.host, failure)),
            }
        }
    }

    /// Starts the workload again whenever another agent has taken the place of the previous one. A host that has rebooted may
    /// answer before its engine does, so a failure does not end the session.
    pub(super) async fn keep_running(&self, workload_gone: &Notify) -> Infallible {
        loop {
            workload_gone.notified().await;
            self.start_again(workload_gone).await;
        }
    }

    /// Tries until the workload runs, or until the agent is lost: then `workload_gone` is notified for the next one.
    async fn start_again(&self, workload_gone: &Notify) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = match self.request() {
                Ok(events) => self.started(events).await,
                Err(failure) => Err(failure),
            };
            match started {
                Ok(_) => return self.runs_again(),
                Err(failure) if failure.kind == Kind::ConnectionLost => return,
                Err(failure) => self.does_not_run(&failure),
            }
            select! {
                () = sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
                // Another agent, which may do better.
                () = workload_gone.notified() => pause = FIRST_PAUSE,
            }
        }
    }

    fn runs_again(&self) {
        self.reporter.done(&self.host);
        if self.failure.send_replace(None).is_some() {
            self.reporter.note(&format!("{}: started again", self.host));
        }
    }

    /// Warns of a failure, unless it is the same one as before.
    fn does_not_run(&self, failure: &Failure) {
        self.reporter.abandon();
        let words = failure.to_string();
        if self.failure.send_replace(Some(words.clone())).as_ref() != Some(&words) {
            let hint = if failure.hint.is_empty() {
                String::new()
            } else {
                format!(" ({})", failure.hint)
            };
            self.reporter.warning(&format!(
                "{words}{hint}. jq tries again until it works; connections that need it wait. Ctrl-C disconnects."
            ));
        }
    }

    fn broken(&self, error: &RequestError) -> Failure {
        if matches!(error, RequestError::Unsupported) {
            return Failure::older_agent(&self.host);
        }
        Failure::new(
            Kind::ConnectionLost,
            "the session was lost while the container was starting",
        )
        .on(&self.host)
        .because(error)
        .hint("run the same command again: completed steps are kept")
    }
}
