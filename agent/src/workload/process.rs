//! Workloads that are processes of the host: a Jupyter that is found by its record, or started from PATH or from a
//! private virtual environment.

pub(crate) mod detached;
mod gpus;
pub(crate) mod loopback;
mod program;
mod venv;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use jq_common::protocol::workload::{Failure, FailureKind, JupyterInfo, JupyterKind, Ready, WorkloadSpec};
use tokio::process::Child;

use self::{detached::Launch, loopback::HostProcesses};
use super::{
    EventSink, HostContext, RunningWorkload, Started, failure,
    gpu::{self, Gpu},
    jupyter::{
        self,
        probe::{Listener, Reason, probe},
        readiness::{self, Outcome},
    },
};
use crate::{
    engine::Exit,
    failure::fail,
    log_tail::tail_of_file,
    session_store::{ProcessRecord, SessionStore},
};

/// How many ports are tried.
const PORTS: u32 = 3;

/// Lines of its log that a failure shows.
const LOG_LINES: usize = 30;

/// Finds or starts the process.
pub(crate) async fn start(
    host: &HostContext,
    store: &SessionStore,
    spec: &WorkloadSpec,
    events: &EventSink,
) -> Result<Started, Failure> {
    check(host, spec)?;
    let gpus = gpus::chosen(host, spec, events).await?;
    let (jupyter, running) = if spec.jupyter == JupyterKind::None {
        (None, Arc::new(HostProcesses::without_jupyter()))
    } else {
        let token = store.token(&spec.session).await;
        let token = token.map_err(|error| failure::state(&error))?;
        let run = Run {
            host,
            store,
            spec,
            events,
            token: &token,
            gpus: &gpus,
        };
        let (jupyter, running) = run.jupyter().await?;
        (Some(jupyter), running)
    };
    Ok(Started {
        ready: Ready {
            engine: "process of the host".into(),
            container: None,
            jupyter,
            gpus: gpu::lines(&gpus),
        },
        running,
    })
}

/// The processes of this host as a workload that was started before; starts nothing.
pub(crate) fn find(
    host: &HostContext,
    store: &SessionStore,
    spec: &WorkloadSpec,
) -> Arc<dyn RunningWorkload> {
    let jupyter = store
        .process(&spec.session)
        .filter(|_| spec.jupyter != JupyterKind::None);
    Arc::new(jupyter.map_or_else(HostProcesses::without_jupyter, |record| {
        HostProcesses::with_jupyter(record.port, host.uid)
    }))
}

/// Refuses options that only a container can fulfil: ignoring them silently would be worse.
fn check(host: &HostContext, spec: &WorkloadSpec) -> Result<(), Failure> {
    let refuse = |what: &str, why: &str, hint: &str| Err(fail(FailureKind::BadRequest, what, why, hint));
    if spec.image.is_some() || spec.existing_container.is_some() {
        return refuse(
            "a process takes no image or container",
            "`--engine process` runs Jupyter without a container",
            "leave `--engine process` out to use the container, or leave the image out",
        );
    }
    if !spec.volumes.is_empty() {
        return refuse(
            "a process has no volumes",
            "it uses the host's files directly",
            "leave `-v` out and use `-w FOLDER` to choose where Jupyter starts; or name an image",
        );
    }
    if spec.user.is_some_and(|user| user.uid != host.uid) {
        return refuse(
            "a process runs as you",
            "another user needs a container",
            "leave `--user` out, or name an image",
        );
    }
    Ok(())
}

struct Run<'a> {
    host: &'a HostContext,
    store: &'a SessionStore,
    spec: &'a WorkloadSpec,
    events: &'a EventSink,
    token: &'a str,
    gpus: &'a [Gpu],
}

impl Run<'_> {
    /// Finds or starts Jupyter, and returns how to reach it.
    async fn jupyter(&self) -> Result<(JupyterInfo, Arc<HostProcesses>), Failure> {
        let kind = self.spec.jupyter;
        let info = |kind, port, was_running| jupyter::info(kind, port, self.token, was_running);
        let workdir = self.workdir()?;
        let record = self.store.process(&self.spec.session);
        if let Some(record) = &record
            && detached::start_time(record.pid) == Some(record.start_time)
        {
            let kind = jupyter::of_verb(&record.verb).unwrap_or(kind);
            let running = Arc::new(HostProcesses::with_jupyter(record.port, self.host.uid));
            if probe(&*running, record.port, self.token).await != Listener::Ours {
                let outcome = self.wait(&*running, record, None).await;
                self.check_outcome(outcome, kind, record.port)?;
            }
            self.note_differences(record, &workdir).await;
            return Ok((info(kind, record.port, true), running));
        }
        let program = self.program().await?;
        self.events
            .step(format!("starting {}", jupyter::name(kind)))
            .await;
        let root = workdir.to_string_lossy().into_owned();
        let mut preferred = record.map(|record| record.port);
        let mut left = PORTS;
        loop {
            let port = detached::free_port(preferred).map_err(|error| {
                fail(
                    FailureKind::HostUnfit,
                    "no port is free on the host",
                    error.to_string(),
                    "try again",
                )
            })?;
            let running = Arc::new(HostProcesses::with_jupyter(port, self.host.uid));
            let (mut child, record) = self.spawn(&program, port, &root).await?;
            let outcome = self.wait(&*running, &record, Some(&mut child)).await;
            let unusable = matches!(
                &outcome,
                Outcome::NotReady(Listener::Unusable(Reason::NoToken | Reason::OtherUser(_)))
            );
            if unusable {
                detached::end(&mut child).await;
            }
            // Another program may take the port before Jupyter listens on it.
            left -= 1;
            let taken = match &outcome {
                Outcome::NotReady(Listener::Unusable(Reason::OtherUser(_))) => true,
                Outcome::Ended(_) => detached::free_port(Some(port)).is_ok_and(|free| free != port),
                _ => false,
            };
            if taken && left > 0 {
                self.events
                    .note(format!(
                        "port {port} was taken by another program; trying another port"
                    ))
                    .await;
                preferred = None;
                continue;
            }
            self.check_outcome(outcome, kind, port)?;
            return Ok((info(kind, port, false), running));
        }
    }

    async fn spawn(&self, program: &Path, port: u16, root: &str) -> Result<(Child, ProcessRecord), Failure> {
        let mut child = detached::spawn(&self.launch(program, port, root)).map_err(|error| {
            fail(
                FailureKind::StartFailed,
                format!("cannot start {}", program.display()),
                error.to_string(),
                "check whether it runs when started by hand on the host",
            )
        })?;
        let pid = child.id().unwrap_or_default();
        let record = ProcessRecord {
            pid,
            start_time: detached::start_time(pid).unwrap_or_default(),
            port,
            verb: jupyter::verb(self.spec.jupyter).unwrap_or_default().to_owned(),
            workdir: root.to_owned(),
        };
        if let Err(error) = self.store.set_process(&self.spec.session, &record).await {
            // Without a record no later agent could find it.
            detached::end(&mut child).await;
            return Err(failure::state(&error));
        }
        Ok((child, record))
    }

    /// Notes options that differ from those of the running Jupyter.
    async fn note_differences(&self, record: &ProcessRecord, workdir: &Path) {
        let running = jupyter::of_verb(&record.verb).unwrap_or(self.spec.jupyter);
        if running != self.spec.jupyter {
            self.events
                .note(format!(
                    "{} is running already, not {}",
                    jupyter::name(running),
                    jupyter::name(self.spec.jupyter)
                ))
                .await;
        }
        if self.spec.workdir.is_some() && workdir.to_string_lossy() != record.workdir {
            self.events
                .note(format!("Jupyter is running already, in {}", record.workdir))
                .await;
        }
        let has = detached::variable(record.pid, gpus::CUDA_DEVICES);
        let note = has.and_then(|has| gpus::difference(self.spec, self.gpus, has.as_deref()));
        if let Some(note) = note {
            self.events.note(note).await;
        }
    }

    fn launch(&self, program: &Path, port: u16, root: &str) -> Launch {
        let as_root = self.host.uid == 0;
        let words = jupyter::command(self.spec.jupyter, port, Some(root), as_root).unwrap_or_default();
        let mut env: Vec<(OsString, OsString)> = Vec::new();
        // So that `pip` in a terminal of this Jupyter installs into its environment.
        if let Some(bin) = program.parent() {
            let mut path = bin.as_os_str().to_owned();
            path.push(":");
            path.push(&self.host.path);
            env.push(("PATH".into(), path));
        }
        env.extend(
            gpus::variables(&self.spec.gpus, self.gpus)
                .into_iter()
                .map(|(key, value)| (key.into(), value.into())),
        );
        env.extend(
            self.spec
                .env
                .iter()
                .map(|(key, value)| (key.into(), value.into())),
        );
        env.push((
            jupyter::TOKEN_FILE_VARIABLE.into(),
            self.store.token_file(&self.spec.session).into(),
        ));
        Launch {
            program: program.to_owned(),
            arguments: words.into_iter().skip(1).collect(),
            env,
            workdir: root.into(),
            log: self.store.log_file(&self.spec.session),
        }
    }

    async fn wait(
        &self,
        workload: &dyn RunningWorkload,
        record: &ProcessRecord,
        child: Option<&mut Child>,
    ) -> Outcome<Option<i32>> {
        let log = self.store.log_file(&self.spec.session);
        let last_line = || async { tail_of_file(&log, 1).pop() };
        let ended = async {
            match child {
                Some(child) => child.wait().await.ok().and_then(|status| status.code()),
                // Started by an earlier agent, so not our child.
                None => std::future::pending().await,
            }
        };
        readiness::wait(workload, record.port, self.token, ended, last_line, self.events).await
    }

    fn check_outcome(
        &self,
        outcome: Outcome<Option<i32>>,
        kind: JupyterKind,
        port: u16,
    ) -> Result<(), Failure> {
        let log = self.store.log_file(&self.spec.session);
        match outcome {
            Outcome::Ready => Ok(()),
            Outcome::OtherToken => Err(readiness::other_token(kind, port)),
            Outcome::NotReady(found) => {
                Err(readiness::not_ready(kind, &found, &tail_of_file(&log, LOG_LINES)))
            }
            Outcome::Ended(code) => {
                let exit = Exit {
                    code: code.map(Into::into),
                    ..Exit::default()
                };
                let mut failure = readiness::ended(kind, "the host", &exit, &tail_of_file(&log, LOG_LINES));
                failure.hint = format!("its log is {} on the host", log.display());
                Err(failure)
            }
        }
    }

    /// The directory of `-w`, or the user's home.
    fn workdir(&self) -> Result<PathBuf, Failure> {
        let dir = match self.spec.workdir.as_deref() {
            None | Some("~") => self.host.home.clone(),
            Some(dir) => match dir.strip_prefix("~/") {
                Some(rest) => self.host.home.join(rest),
                None => dir.into(),
            },
        };
        if dir.is_dir() {
            return Ok(dir);
        }
        Err(fail(
            FailureKind::BadRequest,
            format!("there is no folder {}", dir.display()),
            "Jupyter cannot start there",
            "create it on the host, or choose another with `-w`",
        ))
    }
}
