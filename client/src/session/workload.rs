//! The workload of a session: asks the agent to start it, and reports what the agent does until it runs.

use std::sync::Arc;

use jq_common::protocol::workload::{Event, Ready, Request, WorkloadSpec};
use tokio::sync::Notify;

use crate::{
    error::{Failure, Kind},
    reporter::{self, Reporter},
    resumable_session::{Events, RequestError, Session},
};

/// The workload of a session.
pub(super) struct Workload {
    pub(super) session: Arc<Session>,
    pub(super) spec: WorkloadSpec,
    /// The host, as the user writes it.
    pub(super) host: String,
    pub(super) reporter: Arc<dyn Reporter>,
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

    /// Starts the workload again whenever another agent has taken the place of the first one. Returns when that fails.
    pub(super) async fn restart(&self, workload_gone: &Notify) -> Failure {
        loop {
            workload_gone.notified().await;
            let started = match self.request() {
                Ok(events) => self.started(events).await,
                Err(failure) => Err(failure),
            };
            match started {
                Ok(_) => self.reporter.done(&self.host),
                // That agent is lost as well; another one will be found.
                Err(failure) if failure.kind == Kind::ConnectionLost => {}
                Err(failure) => return failure,
            }
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
