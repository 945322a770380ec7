//! Carries out the plan for a container, and reports to the client.

mod beside;
mod create;
mod find;
mod gpus;
mod jupyter;
mod pull;
mod remedies;

use std::sync::Arc;

use jq_common::protocol::workload::{
    ContainerInfo, Failure, FailureKind, GpuAsk, Origin, Ready, WorkloadSpec,
};

pub(crate) use self::find::find;
use self::remedies::{NotStarted, Remedies};
use super::{
    etc_passwd,
    files::{jupyter_entries, open_to_all},
    helper::ContainerAccess,
    options::Options,
    ownership,
    plan::{Desired, Observed, Step, Target, plan},
    volumes,
};
use crate::{
    engine::{ContainerEngine, ContainerState},
    failure::fail,
    session_store::{ContainerRecord, EngineRecord, SessionStore, TokenOf},
    workload::{EventSink, HostContext, Started, failure, gpu::HostGpus},
};

/// One request for a container.
pub(crate) struct Run<'a> {
    pub(crate) engine: Arc<dyn ContainerEngine>,
    pub(crate) host: &'a HostContext,
    pub(crate) store: &'a SessionStore,
    pub(crate) access: &'a dyn ContainerAccess,
    pub(crate) gpus: &'a HostGpus,
    pub(crate) spec: &'a WorkloadSpec,
    pub(crate) events: &'a EventSink,
}

impl Run<'_> {
    /// Finds or creates the container and starts what is to run in it.
    pub(crate) async fn container(&self) -> Result<Started, Failure> {
        let name = ownership::name(&self.host.user, &self.spec.session);
        let desired = Desired {
            session: &self.spec.session,
            owner: self.host.uid,
            name: &name,
            target: self.target()?,
            pull: self.spec.pull,
        };
        let observed = self
            .events
            .waiting(
                "waiting for the engine to say what it has",
                self.observe(&desired),
            )
            .await?;
        let steps = plan(&desired, &observed)?;
        let mut runs = None;
        let mut gpus_wanted = true;
        let mut remedies = Remedies::default();
        for step in &steps {
            let id = match step {
                Step::Discard(id) => {
                    self.engine
                        .remove(id)
                        .await
                        .map_err(|error| failure::engine("cannot remove an incomplete container", &error))?;
                    continue;
                }
                Step::Pull => {
                    self.pull().await?;
                    continue;
                }
                Step::Create => {
                    let created = self.create(remedies).await?;
                    gpus_wanted = created.with_gpus;
                    created.id
                }
                Step::Start(id) => {
                    self.start(id).await?;
                    id.clone()
                }
                Step::Use(id) => id.clone(),
            };
            runs = step.origin().map(|origin| (id, origin));
        }
        let (mut id, origin) = runs.ok_or_else(|| {
            fail(
                FailureKind::Internal,
                "the agent found nothing to do",
                "internal error: the plan was empty",
                "please report this",
            )
        })?;
        loop {
            let NotStarted { failure, remedy } = match self.finish(&id, origin, gpus_wanted).await {
                Ok(started) => {
                    self.name_engine().await;
                    return Ok(started);
                }
                Err(not_started) => not_started,
            };
            let Some(remedy) = remedy.filter(|_| origin == Origin::Created) else {
                return Err(failure);
            };
            // Nothing ran in it that anybody needs.
            self.discard(&id).await;
            if !remedies.add(remedy) {
                return Err(failure);
            }
            self.events.note(remedy.note(&failure)).await;
            let created = self.create(remedies).await?;
            gpus_wanted = created.with_gpus;
            id = created.id;
        }
    }

    /// The engine, as records name it.
    fn engine_record(&self) -> EngineRecord {
        let facts = self.engine.facts();
        EngineRecord {
            kind: facts.kind.command().to_owned(),
            socket: facts.socket.clone(),
        }
    }

    /// Writes the engine into the session's record where it names none or another: an older build wrote it, or the
    /// engine's socket has moved.
    async fn name_engine(&self) {
        let engine = Some(self.engine_record());
        let Some(record) = self.store.container(&self.spec.session).await else {
            return;
        };
        if self.spec.existing_container.is_none() && record.engine != engine {
            let record = ContainerRecord { engine, ..record };
            if let Err(error) = self.store.set_container(&self.spec.session, &record).await {
                tracing::warn!(%error, "the engine of a session's container is not recorded");
            }
        }
    }

    fn target(&self) -> Result<Target, Failure> {
        if let Some(container) = &self.spec.existing_container {
            return Ok(Target::Existing(container.clone()));
        }
        if self
            .spec
            .workdir
            .as_ref()
            .is_some_and(|dir| !dir.starts_with('/'))
        {
            return Err(fail(
                FailureKind::BadRequest,
                "the working directory is not absolute",
                "a container does not know your home on the host",
                "write it like `-w /work`",
            ));
        }
        let mounts = volumes::resolve(&self.spec.volumes, &self.host.home)?;
        volumes::check_options(&mounts, self.engine.facts().kind)?;
        let image = self.spec.image.as_deref();
        let options = Options::of(self.spec, image.unwrap_or_default(), &self.host.home)?;
        Ok(match (image, &self.spec.gpus) {
            (Some(_), _) => Target::Session(options),
            // Nothing was requested about GPUs: the container's own are fine.
            (None, GpuAsk::Default) => Target::Whatever(Options {
                gpus: String::new(),
                ..options
            }),
            (None, _) => Target::Whatever(options),
        })
    }

    async fn observe(&self, desired: &Desired<'_>) -> Result<Observed, Failure> {
        let lost = |error| failure::engine("cannot ask the engine", &error);
        let name = match &desired.target {
            Target::Existing(name) => name,
            Target::Session(_) | Target::Whatever(_) => desired.name,
        };
        let container = self.engine.container(name).await.map_err(lost)?;
        let image = match &desired.target {
            Target::Session(options) => self.engine.image(&options.image).await.map_err(lost)?,
            Target::Existing(_) | Target::Whatever(_) => None,
        };
        Ok(Observed {
            container,
            record: self.store.container(desired.session).await,
            image: image.is_some(),
        })
    }

    /// Starts a stopped container of ours. Writes again what starts Jupyter, which may be of an earlier build.
    async fn start(&self, id: &str) -> Result<(), Failure> {
        let failed = |error| failure::engine("cannot start the session's container again", &error);
        self.events.step("starting the container again").await;
        let state = self
            .engine
            .container(id)
            .await
            .map_err(failed)?
            .unwrap_or_default();
        let token = match self.store.token(&self.spec.session, TokenOf::Container).await {
            Some(token) => token,
            None => self
                .store
                .new_token(&self.spec.session, TokenOf::Container)
                .await
                .map_err(|error| failure::state(&error))?,
        };
        let owner = self.runs_as(&state).await;
        let mut entries = jupyter_entries(ownership::folder(&state), &token, owner);
        if self.engine.facts().remapped && ownership::runs_as(&state).is_some() {
            open_to_all(&mut entries);
        }
        self.engine.put(id, entries).await.map_err(failed)?;
        self.engine.start(id).await.map_err(failed)
    }

    /// Uid and gid of Jupyter in this container.
    async fn runs_as(&self, container: &ContainerState) -> (u32, u32) {
        if let Some(known) = ownership::runs_as(container) {
            return known;
        }
        let list = self.engine.read(&container.id, "/etc/passwd").await;
        let list = list.ok().flatten().unwrap_or_default();
        etc_passwd::resolve(&container.user, &String::from_utf8_lossy(&list)).unwrap_or((0, 0))
    }

    /// Finishes the start of a running container: opens its network, starts Jupyter, and verifies the GPUs unless they
    /// were already reported missing.
    async fn finish(&self, id: &str, origin: Origin, gpus_wanted: bool) -> Result<Started, NotStarted> {
        let container = self
            .engine
            .container(id)
            .await
            .map_err(|error| failure::engine("cannot ask the engine", &error))?
            .unwrap_or_default();
        let created_with = self
            .spec
            .existing_container
            .is_none()
            .then(|| ownership::options(&container))
            .flatten();
        // Detected while Jupyter starts, verified afterwards.
        let (jupyter, seen) = tokio::join!(
            self.start_jupyter(&container, origin, created_with.as_ref()),
            self.detect_gpus(id, gpus_wanted, created_with.as_ref())
        );
        let (running, jupyter) = jupyter?;
        let gpus = match seen {
            Some(seen) => self.verify_gpus(id, origin, seen, created_with.as_ref()).await?,
            None => Vec::new(),
        };
        let ready = Ready {
            engine: self.engine.facts().describe(),
            container: Some(ContainerInfo {
                id: container.id,
                name: container.name,
                image: container.image,
                origin,
            }),
            jupyter,
            gpus,
        };
        Ok(Started { ready, running })
    }

    /// Removes a container that was created for this request.
    async fn discard(&self, id: &str) {
        if let Err(error) = self.engine.remove(id).await {
            self.events
                .warning(format!("a container could not be removed: {error}"))
                .await;
        }
    }
}

#[cfg(test)]
mod tests;
