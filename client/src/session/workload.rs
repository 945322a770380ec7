//! The workload on the host: asks the agent to start it, and shows what is heard until it runs.

use std::sync::Arc;

use jq_common::protocol::workload::{Event, Ready, Request};
use tokio::sync::Notify;

use super::core::{Events, RequestError, Session};
use crate::{
    error::{Failure, Kind},
    output::Printer,
    reporter::Reporter as _,
    settings::ConnectSettings,
};

/// Asks the agent to start the workload: the one that carries the session, or the first that will.
pub(crate) fn ask(settings: &ConnectSettings, session: &Arc<Session>) -> Result<Events, Failure> {
    session
        .request(Request::Start(Box::new(settings.workload.clone())))
        .map_err(|error| Failure::new(Kind::Local, "cannot ask for the workload").because(error))
}

/// What it means that the agent on `host` does not support what it was asked for.
pub(crate) fn older_agent(host: &str) -> String {
    format!("the agent on {host} is older than this command: end the other sessions there and connect again")
}

/// Shows what the agent does that was asked to start the workload, until that runs.
pub(crate) async fn start(
    settings: &ConnectSettings,
    session: &Arc<Session>,
    mut events: Events,
    printer: &Printer,
) -> Result<Ready, Failure> {
    let host = settings.target.to_string();
    let broken = |error| match error {
        RequestError::Unsupported => Failure::new(Kind::AgentFailed, older_agent(&host)),
        RequestError::Frame(error) => Failure::new(
            Kind::ConnectionLost,
            "the session was lost while the container was being started",
        )
        .on(&host)
        .because(error)
        .hint("run the same command again: what was done so far is kept"),
    };
    let agent = session.known_by();
    loop {
        match events.next().await.map_err(broken)? {
            Event::Step(text) => printer.begin(&host, &text),
            Event::Progress(progress) => printer.progressed(&host, &progress),
            Event::Note(text) => printer.note(&text),
            Event::Warning(text) => printer.warning(&text),
            Event::Ready(ready) => {
                session.serve(agent);
                return Ok(*ready);
            }
            Event::Failed(failure) => {
                return Err(Failure {
                    kind: Kind::Agent(failure.kind),
                    what: failure.what,
                    host: Some(host),
                    why: failure.why,
                    hint: failure.hint,
                });
            }
        }
    }
}

/// Has every further agent start the workload too. Returns when one cannot.
pub(crate) async fn restart(
    settings: &ConnectSettings,
    session: &Arc<Session>,
    printer: &Printer,
    workload_gone: &Notify,
) -> Failure {
    loop {
        workload_gone.notified().await;
        let started = match ask(settings, session) {
            Ok(asked) => start(settings, session, asked, printer).await,
            Err(failure) => Err(failure),
        };
        match started {
            Ok(_) => printer.done(&settings.target.to_string()),
            // That agent is gone as well; another one will be found.
            Err(failure) if failure.kind == Kind::ConnectionLost => {}
            Err(failure) => return failure,
        }
    }
}
