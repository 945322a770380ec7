//! Creates a container and starts it; retries without what the engine cannot provide.

use jq_common::protocol::workload::{Failure, FailureKind, JupyterKind, UserSpec};

use super::{Run, remedies::Remedies};
use crate::{
    engine::{ContainerSpec, EngineError, EngineFacts, GpuRequest, ImageFacts, Mount},
    failure::fail,
    random_hex::random_hex,
    run_blocking::run_blocking,
    session_store::{ContainerRecord, TokenOf},
    workload::{
        container::{
            etc_passwd::{self, is_root},
            files::{injected_user_entries, jupyter_entries, jupyter_folder, open_to_all},
            limits::{HardLimits, remove_refused},
            masks,
            options::Options,
            spec::{self, ContainerInputs},
            user::{self, UserPlan},
            volumes,
        },
        failure,
        gpu::{self, GpuPlan},
        jupyter::causes,
    },
};

/// A container that was created and started.
pub(crate) struct Created {
    pub(crate) id: String,
    /// Whether it got GPUs.
    pub(crate) with_gpus: bool,
}

impl Run<'_> {
    /// Creates the workload's container and starts it. Removes one that cannot be started.
    pub(crate) async fn create(&self, remedies: Remedies) -> Result<Created, Failure> {
        let reference = self.spec.image.as_deref().unwrap_or_default();
        let options = Options::of(self.spec, reference, &self.host.home)?;
        let facts = self.engine.facts();
        let gpus = gpu::plan(&self.spec.gpus, self.gpus, facts)?;
        if let Some(warning) = &gpus.warning {
            self.events.warning(warning.clone()).await;
        }
        if matches!(gpus.request, Some(GpuRequest::Nodes { .. })) {
            self.events
                .note("the host's AMD GPUs are passed to the container; jq does not verify them inside")
                .await;
        }
        let mounts = volumes::resolve(&self.spec.volumes, &self.host.home)?;
        let masked = self.prepare(&mounts, facts).await?;
        let image = self.image(reference).await?;
        let entrypoint = if remedies.without_entrypoint {
            Some("")
        } else {
            self.spec.entrypoint.as_deref()
        };
        let user = self.user(remedies, &image, entrypoint, &mounts);
        if let Some(note) = &user.note {
            self.events.note(note.clone()).await;
        }
        let nonce = random_hex::<16>().map_err(|error| failure::state(&error))?;
        let (spec, note) = spec::build(ContainerInputs {
            spec: self.spec,
            options: &options,
            host: self.host,
            engine: facts,
            image: &image,
            mounts,
            user: &user,
            entrypoint,
            gpus: &gpus,
            masked,
            nonce: &nonce,
            hard: HardLimits::read(),
        });
        if let Some(note) = note {
            self.events.note(note).await;
        }
        self.events
            .step(format!("creating the container {}", spec.name))
            .await;
        // An earlier container of this session may have belonged to a hostile image.
        let token = self.store.new_token(&self.spec.session, TokenOf::Container).await;
        let token = token.map_err(|error| failure::state(&error))?;
        self.attempts(spec, &user, &image, &gpus, &nonce, &token).await
    }

    /// The user of the container.
    fn user(
        &self,
        remedies: Remedies,
        image: &ImageFacts,
        entrypoint: Option<&str>,
        mounts: &[Mount],
    ) -> UserPlan {
        let asked = self.spec.user.or_else(|| {
            remedies.as_caller.then_some(UserSpec {
                uid: self.host.uid,
                gid: Some(self.host.gid),
            })
        });
        // What the image starts with decides who it runs as, so it counts only where it is used.
        let used = match entrypoint {
            None => image.clone(),
            Some(program) => ImageFacts {
                entrypoint: vec![program.to_owned()],
                command: Vec::new(),
                ..image.clone()
            },
        };
        user::plan(asked, self.host, self.engine.facts(), &used, mounts)
    }

    /// Creates the missing folders of the volumes. Returns the paths in the container that are to be hidden.
    async fn prepare(&self, mounts: &[Mount], facts: &EngineFacts) -> Result<Vec<String>, Failure> {
        if let Some(note) = volumes::selinux_note(mounts, facts) {
            self.events.note(note).await;
        }
        let (wanted, host) = (mounts.to_vec(), self.host.clone());
        let prepared = run_blocking(move || {
            let created = volumes::prepare(&wanted, &host.home)?;
            Ok::<_, Failure>((created, masks::masked(&wanted, &host)?))
        });
        let (created, masked) = self
            .events
            .waiting("looking at the folders of the volumes", prepared)
            .await?;
        for folder in created {
            self.events
                .note(format!("created {} on the host", folder.display()))
                .await;
        }
        Ok(masked)
    }

    async fn image(&self, reference: &str) -> Result<ImageFacts, Failure> {
        self.engine
            .image(reference)
            .await
            .map_err(|error| failure::engine("cannot ask the engine", &error))?
            .ok_or_else(|| {
                fail(
                    FailureKind::ImageUnavailable,
                    format!("the engine has no image `{reference}`"),
                    "it was pulled but is missing",
                    "check the image's name, and that it is for this host's architecture",
                )
            })
    }

    /// Tries to start the container. Each refusal removes something from the specification, so this terminates.
    async fn attempts(
        &self,
        mut spec: ContainerSpec,
        user: &UserPlan,
        image: &ImageFacts,
        gpus: &GpuPlan,
        nonce: &str,
        token: &str,
    ) -> Result<Created, Failure> {
        let mut refused: Vec<String> = Vec::new();
        loop {
            let error = match self.attempt(&spec, user, image, nonce, token).await? {
                Ok(id) => {
                    if !refused.is_empty() {
                        let names = refused.join(", ");
                        self.events
                            .note(format!("these limits cannot be raised on this host: {names}"))
                            .await;
                    }
                    return Ok(Created {
                        id,
                        with_gpus: spec.gpus.is_some(),
                    });
                }
                Err(error) => error,
            };
            match error {
                EngineError::GpuRefused(why) if spec.gpus.is_some() && !gpus.required => {
                    spec.gpus = None;
                    self.events
                        .warning(format!(
                            "the engine cannot provide GPUs, so the container runs without: {why}; \
                             install the NVIDIA Container Toolkit on the host to use them"
                        ))
                        .await;
                }
                EngineError::GpuRefused(why) if spec.gpus.is_some() => {
                    return Err(gpu::refused(&why));
                }
                EngineError::InitMissing(why) if spec.init => {
                    spec.init = false;
                    self.events
                        .note(format!(
                            "the engine has no init program, so the container runs without one: {why}"
                        ))
                        .await;
                }
                EngineError::LimitRefused(why) if !spec.limits.is_empty() => {
                    refused.push(remove_refused(&mut spec.limits, &why));
                }
                EngineError::Conflict(why) => {
                    return Err(fail(
                        FailureKind::NameTaken,
                        format!("the container name `{}` is taken", spec.name),
                        why,
                        "use another session name (`--name`)",
                    ));
                }
                EngineError::CommandMissing(why) if self.spec.jupyter != JupyterKind::None => {
                    return Err(command_missing(self.spec.jupyter, &spec, image, &why));
                }
                EngineError::MountRefused(why) => {
                    return Err(volumes::refused(&spec.mounts, &why, self.engine.facts()));
                }
                error => return Err(failure::engine("cannot start the container", &error)),
            }
        }
    }

    /// Creates, fills and starts one container. The outer error is ours, the inner one the engine's; on either, nothing
    /// is left.
    async fn attempt(
        &self,
        spec: &ContainerSpec,
        user: &UserPlan,
        image: &ImageFacts,
        nonce: &str,
        token: &str,
    ) -> Result<Result<String, EngineError>, Failure> {
        // Recorded before the container exists, so that one whose creation is interrupted can be identified.
        self.record(nonce, None).await?;
        let id = match self.engine.create(spec).await {
            Ok(id) => id,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(failure) = self.record(nonce, Some(&id)).await {
            self.discard(&id).await;
            return Err(failure);
        }
        let filled = self.fill(&id, spec, user, image, token).await;
        let started = match filled {
            Ok(()) => self.engine.start(&id).await,
            Err(error) => Err(error),
        };
        if let Err(error) = started {
            self.discard(&id).await;
            return Ok(Err(error));
        }
        Ok(Ok(id))
    }

    async fn record(&self, nonce: &str, id: Option<&str>) -> Result<(), Failure> {
        let record = ContainerRecord {
            nonce: nonce.to_owned(),
            id: id.map(str::to_owned),
            engine: Some(self.engine_record()),
        };
        let kept = self.store.set_container(&self.spec.session, &record).await;
        kept.map_err(|error| failure::state(&error))
    }

    /// Writes the token, and a home and a name for a user that the image does not know.
    async fn fill(
        &self,
        id: &str,
        spec: &ContainerSpec,
        user: &UserPlan,
        image: &ImageFacts,
        token: &str,
    ) -> Result<(), EngineError> {
        let passwd = self.list(id, "/etc/passwd").await?;
        let mut entries = Vec::new();
        if let Some(injected_user) = &user.injected_user {
            let group = self.list(id, "/etc/group").await?;
            entries =
                injected_user_entries(injected_user, &spec.mounts, (passwd.as_deref(), group.as_deref()));
        }
        if self.spec.jupyter != JupyterKind::None {
            let owner = user.runs_as.or_else(|| {
                if is_root(&image.user) {
                    Some((0, 0))
                } else {
                    etc_passwd::resolve(&image.user, passwd.as_deref().unwrap_or_default())
                }
            });
            let folder = jupyter_folder(&spec.mounts, &image.volumes);
            entries.extend(jupyter_entries(folder, token, owner.unwrap_or((0, 0))));
        }
        if entries.is_empty() {
            return Ok(());
        }
        if spec.host_users {
            open_to_all(&mut entries);
        }
        self.engine.put(id, entries).await
    }

    async fn list(&self, id: &str, path: &str) -> Result<Option<String>, EngineError> {
        let list = self.engine.read(id, path).await?;
        Ok(list.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// The failure when a container has no program to start: Jupyter's, or the entry point's before it.
fn command_missing(kind: JupyterKind, spec: &ContainerSpec, image: &ImageFacts, why: &str) -> Failure {
    let entrypoint = spec.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let program = entrypoint.first().filter(|program| *program != "/bin/sh");
    match program {
        Some(program) if why.contains(&**program) => fail(
            FailureKind::CommandMissing,
            format!("`{}` cannot start its entry point `{program}`", spec.image),
            why,
            "`--entrypoint PROGRAM` names another program of the image, and `--entrypoint \"\"` leaves it out",
        ),
        _ => causes::missing(kind, &spec.image, why),
    }
}
