//! Starts Jupyter in a running container: as the container's own command, or beside it.

use std::sync::Arc;

use jq_common::protocol::workload::{Failure, FailureKind, JupyterInfo, JupyterKind, Origin};
use tokio::time::{Duration, timeout};

use super::{
    Run,
    remedies::{NotStarted, Remedy, remedy},
};
use crate::{
    engine::{ContainerState, EngineError, Exit, Phase},
    failure::fail,
    session_store::TokenOf,
    workload::{
        RunningWorkload,
        container::{files::report_file, options::Options, ownership},
        failure,
        jupyter::{
            self, causes,
            output::{Output, Report},
            probe::{Listener, probe},
            readiness::{self, Outcome},
        },
    },
};

/// How long an image's own command must keep running to count as started.
const KEEPS_RUNNING: Duration = Duration::from_millis(1500);

/// Last lines of its output by which a wait tells whether it goes on.
const LAST_LINES: usize = 8;

/// Lines of its output that are kept of what failed.
const KEPT_LINES: usize = 1000;

/// PATH of a container whose image sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Run<'_> {
    /// Opens the container's network and starts Jupyter if it is wanted.
    pub(crate) async fn start_jupyter(
        &self,
        container: &ContainerState,
        origin: Origin,
        created_with: Option<&Options>,
    ) -> Result<(Arc<dyn RunningWorkload>, Option<JupyterInfo>), NotStarted> {
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
        match own {
            Some(kind) => {
                let info = self.own_command(&*workload, container, origin, kind).await?;
                Ok((workload, Some(info)))
            }
            None => {
                let (workload, info) = self.beside(workload, container).await?;
                Ok((workload, Some(info)))
            }
        }
    }

    /// Opens the container's network. If the container ends meanwhile, that is the failure to report.
    async fn open(
        &self,
        container: &ContainerState,
        origin: Origin,
        kind: JupyterKind,
    ) -> Result<Arc<dyn RunningWorkload>, NotStarted> {
        match self
            .access
            .open(&self.engine, container, &self.spec.session)
            .await
        {
            Ok(workload) => Ok(workload),
            Err(failure) => {
                let state = self.engine.container(&container.id).await;
                if state.is_ok_and(|state| state.is_some_and(|state| state.phase == Phase::Running)) {
                    return Err(failure.into());
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
        kind: JupyterKind,
    ) -> Result<JupyterInfo, NotStarted> {
        let Some(token) = self.store.token(&self.spec.session, TokenOf::Container).await else {
            return Err(lost_token(&container.name).into());
        };
        let info = |was_running| jupyter::info(kind, jupyter::PORT, &token, was_running);
        if origin == Origin::Found && probe(workload, jupyter::PORT, &token).await == Listener::Ours {
            return Ok(info(true));
        }
        self.events
            .step(format!("starting {}", jupyter::name(kind)))
            .await;
        let last_lines = || async {
            let log = self.engine.log_tail(&container.id, LAST_LINES).await;
            log.unwrap_or_default()
        };
        let outcome = readiness::wait(
            workload,
            jupyter::PORT,
            &token,
            self.engine.exited(&container.id),
            last_lines,
            self.events,
        );
        let found = match outcome.await {
            Outcome::Ready => return Ok(info(false)),
            Outcome::Ended(exit) => return Err(self.ended(kind, container, origin, exit).await),
            Outcome::OtherToken => Listener::OtherToken,
            Outcome::NotReady(found) => found,
        };
        let output = self.kept_output(container).await;
        let failure = match found {
            Listener::OtherToken => causes::other_token(kind, &output),
            found => causes::not_ready(kind, &found, &output),
        };
        // What answers there may be the entry point's own.
        let remedy = self.remedy(container, &output.lines).await;
        Err(NotStarted { failure, remedy })
    }

    /// The failure of a container that has ended. Removes it if it was created for this request, as it never worked.
    async fn ended(
        &self,
        kind: JupyterKind,
        container: &ContainerState,
        origin: Origin,
        exit: Result<Exit, EngineError>,
    ) -> NotStarted {
        let exit = match exit {
            Ok(exit) => exit,
            Err(error) => return failure::engine("lost track of the container", &error).into(),
        };
        let mut output = self.kept_output(container).await;
        let report = self.report(container).await;
        output.lines.extend(report.lines().map(str::to_owned));
        let failure = self.failure(kind, container, &exit, &output).await;
        let was_killed = exit.out_of_memory || exit.code == Some(137);
        let remedy = if kind == JupyterKind::None || was_killed {
            None
        } else {
            self.remedy(container, &output.lines).await
        };
        if origin == Origin::Created {
            self.discard(&container.id).await;
        }
        NotStarted { failure, remedy }
    }

    /// Why Jupyter's command has ended in this container.
    pub(super) async fn failure(
        &self,
        kind: JupyterKind,
        container: &ContainerState,
        exit: &Exit,
        output: &Output,
    ) -> Failure {
        let report = output.report();
        let reached = report.uid.is_some();
        let named = self
            .spec
            .entrypoint
            .as_deref()
            .filter(|program| !program.is_empty());
        if let Some(program) = named.filter(|_| !reached && kind != JupyterKind::None) {
            return causes::not_led_to(kind, &container.image, program, exit, output);
        }
        let folders = match report.lacks_jupyter_in {
            Some(folders) => folders,
            None if reached || kind == JupyterKind::None => Vec::new(),
            // The image's own entry point may report in any words that there is no `jupyter`.
            None => self.path(container).await,
        };
        if folders.is_empty() {
            return causes::ended(kind, &container.image, exit, output);
        }
        match (self.jupyter_in(container, &folders).await, report.uid) {
            (Ok(Some(found)), Some(uid)) => causes::out_of_reach(kind, &container.image, &found, uid),
            (Ok(None), _) | (Err(_), Some(_)) => causes::missing(kind, &container.image, &output.says()),
            (Ok(Some(_)) | Err(_), None) => causes::ended(kind, &container.image, exit, output),
        }
    }

    /// The first `jupyter` in these folders, as root sees them.
    async fn jupyter_in(
        &self,
        container: &ContainerState,
        folders: &[String],
    ) -> Result<Option<String>, EngineError> {
        for folder in folders.iter().filter(|folder| folder.starts_with('/')) {
            let program = format!("{folder}/jupyter");
            if self.engine.has(&container.id, &program).await? {
                return Ok(Some(program));
            }
        }
        Ok(None)
    }

    /// The folders of PATH, as image and request have it.
    async fn path(&self, container: &ContainerState) -> Vec<String> {
        let Ok(Some(image)) = self.engine.image(&container.image).await else {
            return Vec::new();
        };
        let set = |env: &[(String, String)]| {
            let found = env.iter().rev().find(|(key, _)| key == "PATH");
            found.map(|(_, value)| value.clone())
        };
        let path = set(&self.spec.env)
            .or_else(|| set(&image.env))
            .unwrap_or_else(|| DEFAULT_PATH.to_owned());
        path.split(':').map(str::to_owned).collect()
    }

    /// What may help this container.
    async fn remedy(&self, container: &ContainerState, log: &[String]) -> Option<Remedy> {
        let report = self.report(container).await;
        let report = Report::of(log.iter().map(String::as_str).chain(report.lines()));
        let image = self.engine.image(&container.image).await.ok().flatten();
        // An entry point that the user named is not left out.
        let entrypoint = image
            .filter(|_| self.spec.entrypoint.is_none())
            .map(|image| image.entrypoint);
        let reached = report.uid.is_some() && !self.is_hidden(container, &report).await;
        remedy(&entrypoint.unwrap_or_default(), log, reached)
    }

    /// Whether the image's own PATH leads to a `jupyter`, and that of its entry point does not: a login shell sets another.
    async fn is_hidden(&self, container: &ContainerState, report: &Report) -> bool {
        let Some(lacks) = &report.lacks_jupyter_in else {
            return false;
        };
        let mut others = self.path(container).await;
        others.retain(|folder| !lacks.contains(folder));
        matches!(self.jupyter_in(container, &others).await, Ok(Some(_)))
    }

    /// What the program that starts Jupyter has reported in a container of ours; empty when it was not reached.
    async fn report(&self, container: &ContainerState) -> String {
        let file = report_file(ownership::folder(container));
        let report = self.engine.read(&container.id, &file).await.ok().flatten();
        String::from_utf8_lossy(&report.unwrap_or_default()).into_owned()
    }

    /// The container's last output, also kept in a file: a container that never worked is removed with its log.
    async fn kept_output(&self, container: &ContainerState) -> Output {
        let log = self.engine.log_tail(&container.id, KEPT_LINES).await;
        self.keep(log.unwrap_or_default()).await
    }

    /// Keeps this output in a file.
    pub(super) async fn keep(&self, lines: Vec<String>) -> Output {
        let mut output = Output {
            lines: lines.clone(),
            kept: None,
        };
        if lines.is_empty() {
            return output;
        }
        match self.store.keep_log(&self.spec.session, lines).await {
            Ok(file) => output.kept = Some(format!("{} on the host", file.display())),
            Err(error) => tracing::warn!(%error, "a log cannot be kept"),
        }
        output
    }
}

fn lost_token(container: &str) -> Failure {
    fail(
        FailureKind::HostUnfit,
        format!("the token of the container `{container}` is lost"),
        "your state on the host has none for it",
        format!("`docker stop {container}` on the host: the next connect starts it again, with a new token"),
    )
}
