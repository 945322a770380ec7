//! Starts Jupyter in a running container: as the container's own command, or beside it.

use std::sync::Arc;

use jq_common::protocol::workload::{Failure, FailureKind, JupyterInfo, JupyterKind, Origin};
use tokio::time::{Duration, timeout};

use super::Run;
use crate::{
    engine::{ContainerState, EngineError, Exec, Exit, Phase},
    failure::fail,
    log_tail::Tail,
    workload::{
        RunningWorkload,
        container::{files::token_entries, options::Options},
        failure,
        jupyter::{
            self,
            probe::{Listener, probe},
            readiness::{self, Outcome},
        },
    },
};

/// How long an image's own command must keep running to count as started.
const KEEPS_RUNNING: Duration = Duration::from_millis(1500);

/// Lines of a container's output that a failure shows.
const LOG_LINES: usize = 30;

/// PATH of a container whose image sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Run<'_> {
    /// Opens the container's network and starts Jupyter if it is wanted.
    pub(crate) async fn start_jupyter(
        &self,
        container: &ContainerState,
        origin: Origin,
        token: &str,
        created_with: Option<&Options>,
    ) -> Result<(Arc<dyn RunningWorkload>, Option<JupyterInfo>), Failure> {
        let kind = self.spec.jupyter;
        if kind == JupyterKind::None {
            if origin != Origin::Found
                && let Ok(exit) = timeout(KEEPS_RUNNING, self.engine.exited(&container.id)).await
            {
                return Err(self.ended(kind, container, origin, exit).await);
            }
            return Ok((self.open(container, origin, kind).await?, None));
        }
        let workload = self.open(container, origin, kind).await?;
        // A container's own Jupyter is of the kind that it was created with.
        let own = created_with
            .map(|options| options.jupyter)
            .filter(|kind| *kind != JupyterKind::None);
        let info = match own {
            Some(kind) => {
                self.own_command(&*workload, container, origin, token, kind)
                    .await?
            }
            None => self.beside(&*workload, container, token).await?,
        };
        Ok((workload, Some(info)))
    }

    /// Opens the container's network. If the container ends meanwhile, that is the failure to report.
    async fn open(
        &self,
        container: &ContainerState,
        origin: Origin,
        kind: JupyterKind,
    ) -> Result<Arc<dyn RunningWorkload>, Failure> {
        match self
            .access
            .open(&self.engine, container, &self.spec.session)
            .await
        {
            Ok(workload) => Ok(workload),
            Err(failure) => {
                let state = self.engine.container(&container.id).await;
                if state.is_ok_and(|state| state.is_some_and(|state| state.phase == Phase::Running)) {
                    return Err(failure);
                }
                let exit = self.engine.exited(&container.id).await;
                Err(self.ended(kind, container, origin, exit).await)
            }
        }
    }

    /// Waits for a Jupyter that is the container's own command.
    async fn own_command(
        &self,
        workload: &dyn RunningWorkload,
        container: &ContainerState,
        origin: Origin,
        token: &str,
        kind: JupyterKind,
    ) -> Result<JupyterInfo, Failure> {
        let info = |was_running| jupyter::info(kind, jupyter::PORT, token, was_running);
        if origin == Origin::Found && probe(workload, jupyter::PORT, token).await == Listener::Ours {
            return Ok(info(true));
        }
        self.events
            .step(format!("starting {}", jupyter::name(kind)))
            .await;
        let last_line = || async {
            let log = self.engine.log_tail(&container.id, 1).await;
            log.ok()?.pop()
        };
        let outcome = readiness::wait(
            workload,
            jupyter::PORT,
            token,
            self.engine.exited(&container.id),
            last_line,
            self.events,
        );
        match outcome.await {
            Outcome::Ready => Ok(info(false)),
            Outcome::OtherToken => Err(readiness::other_token(kind, jupyter::PORT)),
            Outcome::Ended(exit) => Err(self.ended(kind, container, origin, exit).await),
            Outcome::NotReady(found) => Err(readiness::not_ready(kind, &found, &self.log(container).await)),
        }
    }

    /// The failure of a container that has ended. Removes it if it was created for this request, as it never worked.
    async fn ended(
        &self,
        kind: JupyterKind,
        container: &ContainerState,
        origin: Origin,
        exit: Result<Exit, EngineError>,
    ) -> Failure {
        let exit = match exit {
            Ok(exit) => exit,
            Err(error) => return failure::engine("lost track of the container", &error),
        };
        let log = self.log(container).await;
        let failure = if kind != JupyterKind::None && self.lacks_jupyter(container).await {
            let words = readiness::last_output(&log).unwrap_or_default();
            readiness::missing(kind, &container.image, &words)
        } else {
            readiness::ended(kind, &container.image, &exit, &log)
        };
        if origin == Origin::Created {
            self.discard(&container.id).await;
        }
        failure
    }

    /// Whether no `jupyter` is on the image's PATH. The image's own entry point may report that in any words.
    async fn lacks_jupyter(&self, container: &ContainerState) -> bool {
        let Ok(Some(image)) = self.engine.image(&container.image).await else {
            return false;
        };
        let set = |env: &[(String, String)]| {
            let found = env.iter().rev().find(|(key, _)| key == "PATH");
            found.map(|(_, value)| value.clone())
        };
        let path = set(&self.spec.env)
            .or_else(|| set(&image.env))
            .unwrap_or_else(|| DEFAULT_PATH.to_owned());
        for folder in path.split(':').filter(|folder| folder.starts_with('/')) {
            let program = format!("{folder}/jupyter");
            match self.engine.has(&container.id, &program).await {
                Ok(false) => {}
                // It exists, or that is unknown.
                Ok(true) | Err(_) => return false,
            }
        }
        true
    }

    async fn log(&self, container: &ContainerState) -> Vec<String> {
        self.engine
            .log_tail(&container.id, LOG_LINES)
            .await
            .unwrap_or_default()
    }

    /// Uses or starts Jupyter beside the container's own command, on the first port that is free or already has ours.
    async fn beside(
        &self,
        workload: &dyn RunningWorkload,
        container: &ContainerState,
        token: &str,
    ) -> Result<JupyterInfo, Failure> {
        let kind = self.spec.jupyter;
        let info = |port, was_running| jupyter::info(kind, port, token, was_running);
        let mut free = None;
        for port in jupyter::PORT..jupyter::PORT + jupyter::PORTS {
            match probe(workload, port, token).await {
                Listener::Ours => return Ok(info(port, true)),
                Listener::None(_) => free = free.or(Some(port)),
                Listener::OtherToken | Listener::Unusable(_) => {}
            }
        }
        let Some(port) = free else {
            return Err(fail(
                FailureKind::StartFailed,
                format!("no port is free for {}", jupyter::name(kind)),
                format!(
                    "something listens on each of {} to {} in the container",
                    jupyter::PORT,
                    jupyter::PORT + jupyter::PORTS - 1
                ),
                "stop one of them, or use `--jupyter none` and forward the port with `-L`",
            ));
        };
        self.launch_beside(workload, container, token, port).await?;
        Ok(info(port, false))
    }

    async fn launch_beside(
        &self,
        workload: &dyn RunningWorkload,
        container: &ContainerState,
        token: &str,
        port: u16,
    ) -> Result<(), Failure> {
        let kind = self.spec.jupyter;
        self.events
            .step(format!("starting {} in {}", jupyter::name(kind), container.name))
            .await;
        let owner = self.runs_as(container).await;
        self.engine
            .put(&container.id, token_entries(token, owner))
            .await
            .map_err(|error| {
                fail(
                    FailureKind::ContainerUnavailable,
                    format!("cannot prepare `{}` for {}", container.name, jupyter::name(kind)),
                    error.to_string(),
                    "Jupyter's token is written to /run/jq in the container, which must be writable; \
                     `--jupyter none` uses the container as it is",
                )
            })?;
        let root = self
            .spec
            .workdir
            .clone()
            .or_else(|| (!container.workdir.is_empty()).then(|| container.workdir.clone()));
        let command = Exec {
            command: jupyter::command(kind, port, root.as_deref(), owner.0 == 0).unwrap_or_default(),
            env: vec![(
                jupyter::TOKEN_FILE_VARIABLE.to_owned(),
                jupyter::TOKEN_FILE.to_owned(),
            )],
            workdir: root,
        };
        let output = Tail::default();
        let last_line = || async { output.last(1).pop() };
        let running = async {
            // Either may end first: the container, or the command whose output is read.
            tokio::select! {
                code = self.engine.exec(&container.id, &command, &output) => {
                    code.map(|code| Exit { code, ..Exit::default() })
                }
                exit = self.engine.exited(&container.id) => exit,
            }
        };
        let outcome = readiness::wait(workload, port, token, running, last_line, self.events);
        match outcome.await {
            Outcome::Ready => Ok(()),
            Outcome::OtherToken => Err(readiness::other_token(kind, port)),
            Outcome::NotReady(found) => Err(readiness::not_ready(kind, &found, &output.last(LOG_LINES))),
            Outcome::Ended(Ok(exit)) => Err(readiness::ended(
                kind,
                &container.image,
                &exit,
                &output.last(LOG_LINES),
            )),
            Outcome::Ended(Err(EngineError::CommandMissing(why))) => {
                Err(readiness::missing(kind, &container.image, &why))
            }
            Outcome::Ended(Err(error)) => Err(failure::engine("cannot run Jupyter in the container", &error)),
        }
    }
}
