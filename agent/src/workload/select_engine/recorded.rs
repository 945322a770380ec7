//! Finds the engine that has a certain container: the one of the session's record, or one that the user named.
//!
//! An engine that does not answer may have the container, so none is taken in its place.

use std::{sync::Arc, time::Duration};

use jq_common::protocol::workload::{EngineChoice, Failure, FailureKind, WorkloadSpec};
use tokio::time::{Instant, sleep};

use super::{connect::candidates, failure};
use crate::{
    engine::{
        ContainerEngine,
        docker::{ConnectError, Docker},
        socket::Candidate,
    },
    failure::fail,
    session_store::{ContainerRecord, EngineRecord, SessionStore},
    workload::{EventSink, HostContext, container::ownership},
};

/// How long an engine that has the session's container is waited for: a restart of dockerd takes seconds.
const RESTART: Duration = Duration::from_secs(30);

/// Pause between two attempts.
const AGAIN: Duration = Duration::from_millis(500);

/// A search for a container.
pub(super) struct Search<'a> {
    host: &'a HostContext,
    spec: &'a WorkloadSpec,
    name: String,
    /// The session's record; none for a container that the user named.
    record: Option<ContainerRecord>,
}

/// What one engine says of the container.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Has,
    Lacks,
    /// There is no socket.
    Absent,
    /// There is one, but no answer.
    Silent(ConnectError),
}

/// What follows from asking all engines.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The engine of this place in the list has it.
    Found(usize),
    /// No engine has it.
    Gone,
    /// The engine that may have it gives no answer.
    Unknown(ConnectError),
}

/// Decides from the looks at all engines; `recorded` says that the first of them is that of the record.
fn verdict(looks: Vec<Look>, recorded: Option<&EngineRecord>) -> Verdict {
    if let Some(found) = looks.iter().position(|look| *look == Look::Has) {
        return Verdict::Found(found);
    }
    match (recorded, looks.first()) {
        (Some(_), Some(Look::Lacks)) => return Verdict::Gone,
        (Some(engine), Some(Look::Absent)) => {
            return Verdict::Unknown(ConnectError::Stopped(
                engine.socket.clone(),
                "there is no socket".into(),
            ));
        }
        _ => {}
    }
    let any_answered = looks.contains(&Look::Lacks);
    let silent = looks.into_iter().find_map(|look| match look {
        Look::Silent(error) => Some(error),
        _ => None,
    });
    match silent {
        Some(error) => Verdict::Unknown(error),
        None if any_answered => Verdict::Gone,
        None => Verdict::Unknown(ConnectError::Missing(None)),
    }
}

impl<'a> Search<'a> {
    /// The search for the container that `spec` is about; none when it is about no certain one.
    pub(super) async fn of(
        host: &'a HostContext,
        store: &SessionStore,
        spec: &'a WorkloadSpec,
    ) -> Option<Self> {
        let (name, record) = match &spec.existing_container {
            Some(name) => (name.clone(), None),
            None => (
                ownership::name(&host.user, &spec.session),
                Some(store.container(&spec.session).await?),
            ),
        };
        Some(Self {
            host,
            spec,
            name,
            record,
        })
    }

    /// The container's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Finds the engine; None when none has the container. Waits for one that is restarting.
    ///
    /// # Errors
    /// When the engine that may have it gives no answer, or is another one than was asked for.
    pub(super) async fn find(&self, events: &EventSink) -> Result<Option<Arc<dyn ContainerEngine>>, Failure> {
        let deadline = Instant::now() + if self.may_wait() { RESTART } else { Duration::ZERO };
        let what = format!(
            "waiting for the container engine, which has the container {}, to answer",
            self.name
        );
        let found = async {
            loop {
                match self.look().await? {
                    Ok(found) => return Ok(found),
                    Err(error @ ConnectError::Permission(_)) => return Err(self.silent(&error)),
                    Err(error) if Instant::now() >= deadline => return Err(self.silent(&error)),
                    Err(_) => sleep(AGAIN).await,
                }
            }
        };
        let found = events.waiting(&what, found).await?;
        match &found {
            Some(engine) if !self.is_asked_for(&**engine) => Err(self.on_another(&**engine)),
            _ => Ok(found),
        }
    }

    /// The engine, without waiting for one.
    ///
    /// # Errors
    /// When none has the container, or the engine that may have it gives no answer.
    pub(super) async fn once(&self) -> Result<Arc<dyn ContainerEngine>, Failure> {
        match self.look().await? {
            Ok(Some(engine)) => Ok(engine),
            Ok(None) => Err(self.gone()),
            Err(error) => Err(self.silent(&error)),
        }
    }

    /// Only what is known to have run there is worth waiting for.
    fn may_wait(&self) -> bool {
        let recorded = self.record.as_ref().and_then(|record| record.engine.as_ref());
        recorded.is_some_and(|engine| match self.spec.engine {
            EngineChoice::Docker => engine.kind == "docker",
            EngineChoice::Podman => engine.kind == "podman",
            EngineChoice::Auto | EngineChoice::Process => true,
        })
    }

    /// Asks all engines once. The inner error is that of the engine that may have the container.
    async fn look(&self) -> Result<Result<Option<Arc<dyn ContainerEngine>>, ConnectError>, Failure> {
        let recorded = self.record.as_ref().and_then(|record| record.engine.as_ref());
        let mut all: Vec<Candidate> = recorded.map(candidate).into_iter().collect();
        let choice = if self.record.is_some() {
            EngineChoice::Auto
        } else {
            self.spec.engine
        };
        match candidates(self.host, choice).await {
            Ok(others) => all.extend(
                others
                    .into_iter()
                    .filter(|other| recorded.is_none_or(|engine| engine.socket != other.socket)),
            ),
            // Where the container is recorded counts before what the user's settings say now.
            Err(_) if recorded.is_some() => {}
            Err(failure) => return Err(failure),
        }
        let config = self.host.docker_config();
        let (mut looks, mut engines) = (Vec::new(), Vec::new());
        for candidate in &all {
            let (look, engine) = match Docker::connect_to(candidate, &config).await {
                Ok(engine) => (self.ask(&engine, candidate).await, Some(engine)),
                Err(ConnectError::Missing(_)) => (Look::Absent, None),
                Err(error) => (Look::Silent(error), None),
            };
            engines.push(engine);
            looks.push(look);
            if looks.last() == Some(&Look::Has) {
                break;
            }
        }
        Ok(match verdict(looks, recorded) {
            Verdict::Found(place) => Ok(engines
                .swap_remove(place)
                .map(|engine| Arc::new(engine) as Arc<dyn ContainerEngine>)),
            Verdict::Gone => Ok(None),
            // Nothing is known of a container that the user named where there is no engine at all.
            Verdict::Unknown(ConnectError::Missing(_)) if self.record.is_none() => Ok(None),
            Verdict::Unknown(error) => Err(error),
        })
    }

    async fn ask(&self, engine: &dyn ContainerEngine, at: &Candidate) -> Look {
        match engine.container(&self.name).await {
            Ok(Some(container)) => {
                let recorded = self.record.as_ref().and_then(|record| record.id.as_ref());
                // One of the same name in another engine is another one.
                if recorded.is_none_or(|id| *id == container.id) || self.is_recorded(at) {
                    Look::Has
                } else {
                    Look::Lacks
                }
            }
            Ok(None) => Look::Lacks,
            Err(error) => Look::Silent(ConnectError::Stopped(at.socket.clone(), error.to_string())),
        }
    }

    fn is_recorded(&self, at: &Candidate) -> bool {
        let recorded = self.record.as_ref().and_then(|record| record.engine.as_ref());
        recorded.is_some_and(|engine| engine.socket == at.socket)
    }

    fn is_asked_for(&self, engine: &dyn ContainerEngine) -> bool {
        let kind = engine.facts().kind.command();
        match self.spec.engine {
            EngineChoice::Docker => kind == "docker",
            EngineChoice::Podman => kind == "podman",
            EngineChoice::Auto | EngineChoice::Process => true,
        }
    }

    fn silent(&self, error: &ConnectError) -> Failure {
        let mut failure = failure::not_connected(self.host, self.spec.engine, error);
        if self.record.is_some() {
            failure.why = format!(
                "{}; the container {} may be there, so nothing is used in its place",
                failure.why, self.name
            );
            failure
                .hint
                .push_str("; if that engine is gone for good, use another session name (`--name`)");
        }
        failure
    }

    /// The failure when the session's container is in another engine than the one that was asked for.
    fn on_another(&self, engine: &dyn ContainerEngine) -> Failure {
        fail(
            FailureKind::SpecDiffers,
            format!("the container {} is in another engine", self.name),
            format!("{} has it", engine.facts().describe()),
            "leave `--engine` out to use it, or use another session name (`--name`)",
        )
    }

    /// The failure when no engine has the container.
    pub(super) fn gone(&self) -> Failure {
        let engine = self.record.as_ref().and_then(|record| record.engine.as_ref());
        let was = engine.map_or_else(String::new, |engine| {
            format!("; it was created at {}", engine.socket.display())
        });
        fail(
            FailureKind::ContainerUnavailable,
            format!("the container {} does not exist any more", self.name),
            format!("no engine of the host has it{was}"),
            "name an image to create a new one (`--image IMAGE`), or run Jupyter without a container \
             (`--engine process`)",
        )
    }
}

fn candidate(engine: &EngineRecord) -> Candidate {
    Candidate {
        socket: engine.socket.clone(),
        found_by: "where the session's container is".into(),
        named: true,
    }
}

#[cfg(test)]
mod tests;
