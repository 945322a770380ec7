//! Workloads that are processes of the host: a Jupyter that is found by its record, or the user's own, or one of a
//! private virtual environment. It listens on a Unix socket that only the user can open, and on no port.

pub(crate) mod detached;
mod gpus;
mod login_shell;
pub(crate) mod loopback;
mod program;
mod socket;
mod venv;

use std::{
    ffi::{OsStr, OsString},
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
        self, Listen, START, Start, causes,
        output::Output,
        probe::{Listener, Reason, probe},
        readiness::{self, Outcome},
    },
};
use crate::{
    engine::Exit,
    failure::fail,
    log_tail::tail_of_file,
    run_blocking::run_blocking,
    session_store::{ProcessRecord, SessionStore, TokenOf},
};

/// Lines of its log among which a failure looks for the one that matters.
const LOG_LINES: usize = 1000;

/// Last lines of its log by which a wait tells whether it goes on.
const LAST_LINES: usize = 8;

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
        let run = Run {
            host,
            store,
            spec,
            events,
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
pub(crate) async fn find(
    host: &HostContext,
    store: &SessionStore,
    spec: &WorkloadSpec,
) -> Arc<dyn RunningWorkload> {
    let record = match spec.jupyter {
        JupyterKind::None => None,
        _ => store.process(&spec.session).await,
    };
    Arc::new(match record {
        None => HostProcesses::without_jupyter(),
        Some(record) => recorded(&record, host),
    })
}

/// How the process of a record is reached.
fn recorded(record: &ProcessRecord, host: &HostContext) -> HostProcesses {
    match &record.socket {
        Some(socket) => HostProcesses::with_socket(socket.clone(), host.uid),
        // Of a build before sockets.
        None => HostProcesses::with_port(record.port, host.uid),
    }
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
    gpus: &'a [Gpu],
}

impl Run<'_> {
    /// Finds or starts Jupyter, and returns how to reach it.
    async fn jupyter(&self) -> Result<(JupyterInfo, Arc<HostProcesses>), Failure> {
        let kind = self.spec.jupyter;
        let workdir = self.workdir().await?;
        if let Some(record) = self.store.process(&self.spec.session).await
            && detached::start_time(record.pid) == Some(record.start_time)
        {
            let kind = jupyter::of_verb(&record.verb).unwrap_or(kind);
            let Some(token) = self.store.token(&self.spec.session, TokenOf::Process).await else {
                return Err(lost_token(record.pid));
            };
            let running = Arc::new(recorded(&record, self.host));
            if probe(&*running, record.port, &token).await != Listener::Ours {
                let outcome = self.wait(&*running, record.port, &token, None).await;
                self.check_outcome(outcome, kind)?;
            }
            self.note_differences(&record, &workdir).await;
            return Ok((jupyter::info(kind, record.port, &token, true), running));
        }
        self.start(&workdir).await
    }

    /// Starts Jupyter on a socket, with a fresh token.
    async fn start(&self, workdir: &Path) -> Result<(JupyterInfo, Arc<HostProcesses>), Failure> {
        let (kind, session) = (self.spec.jupyter, &self.spec.session);
        let program = self.program().await?;
        let socket = socket::path(self.host, &self.store.socket_file(session)).map_err(|error| {
            fail(
                FailureKind::HostUnfit,
                format!(
                    "no folder of the host can take the socket of {}",
                    jupyter::name(kind)
                ),
                error.to_string(),
                "make your home or /tmp writable for you",
            )
        })?;
        let token = self.store.new_token(session, TokenOf::Process).await;
        let token = token.map_err(|error| failure::state(&error))?;
        self.events
            .step(format!("starting {}", jupyter::name(kind)))
            .await;
        let root = workdir.to_string_lossy().into_owned();
        let mut child = self.spawn(&program, &socket, &root).await?;
        let running = Arc::new(HostProcesses::with_socket(socket, self.host.uid));
        let port = jupyter::SOCKET_PORT;
        let outcome = self.wait(&*running, port, &token, Some(&mut child)).await;
        if matches!(
            outcome,
            Outcome::OtherToken
                | Outcome::NotReady(Listener::Unusable(Reason::NoToken | Reason::OtherUser(_)))
        ) {
            detached::end(&mut child).await;
        }
        self.check_outcome(outcome, kind)?;
        Ok((jupyter::info(kind, port, &token, false), running))
    }

    async fn spawn(&self, program: &Path, socket: &Path, root: &str) -> Result<Child, Failure> {
        let launch = self.launch(program, socket, root);
        // A program in a network home may take long to be executed.
        let spawned = run_blocking(move || detached::spawn(&launch)).await;
        let mut child = spawned.map_err(|error| {
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
            port: jupyter::SOCKET_PORT,
            socket: Some(socket.to_owned()),
            verb: jupyter::verb(self.spec.jupyter).unwrap_or_default().to_owned(),
            workdir: root.to_owned(),
        };
        if let Err(error) = self.store.set_process(&self.spec.session, &record).await {
            // Without a record no later agent could find it.
            detached::end(&mut child).await;
            return Err(failure::state(&error));
        }
        Ok(child)
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

    fn launch(&self, program: &Path, socket: &Path, root: &str) -> Launch {
        let token = self.store.token_file(&self.spec.session, TokenOf::Process);
        let start = Start {
            kind: self.spec.jupyter,
            listen: Listen::Socket(&socket.to_string_lossy()),
            root: Some(root),
            name: &self.spec.session,
            token: Some(&token.to_string_lossy()),
            report: None,
        };
        let mut env: Vec<(OsString, OsString)> = Vec::new();
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
        // So that it is this `jupyter` which is started, and `pip` in a terminal of it installs into its environment.
        if let Some(bin) = program.parent() {
            let mut path = bin.as_os_str().to_owned();
            path.push(":");
            path.push(self.search_path());
            env.push(("PATH".into(), path));
        }
        Launch {
            program: "/bin/sh".into(),
            arguments: ["-c", START, "jq"]
                .map(str::to_owned)
                .into_iter()
                .chain(start.arguments().unwrap_or_default())
                .collect(),
            env,
            workdir: root.into(),
            umask: self.host.umask(),
            log: self.store.log_file(&self.spec.session),
        }
    }

    /// PATH, as `-e` or the agent's environment has it.
    fn search_path(&self) -> &OsStr {
        let asked = self.spec.env.iter().rev().find(|(key, _)| key == "PATH");
        asked.map_or(&*self.host.path, |(_, path)| OsStr::new(path))
    }

    async fn wait(
        &self,
        workload: &dyn RunningWorkload,
        port: u16,
        token: &str,
        child: Option<&mut Child>,
    ) -> Outcome<Option<i32>> {
        let log = self.store.log_file(&self.spec.session);
        let last_lines = || async { tail_of_file(&log, LAST_LINES) };
        let ended = async {
            match child {
                Some(child) => child.wait().await.ok().and_then(|status| status.code()),
                // Started by an earlier agent, so not our child.
                None => std::future::pending().await,
            }
        };
        readiness::wait(workload, port, token, ended, last_lines, self.events).await
    }

    fn check_outcome(&self, outcome: Outcome<Option<i32>>, kind: JupyterKind) -> Result<(), Failure> {
        let log = self.store.log_file(&self.spec.session);
        let output = || Output {
            lines: tail_of_file(&log, LOG_LINES),
            kept: Some(format!("{} on the host", log.display())),
        };
        match outcome {
            Outcome::Ready => Ok(()),
            Outcome::OtherToken => Err(causes::other_token(kind, &output())),
            Outcome::NotReady(found) => Err(causes::not_ready(kind, &found, &output())),
            Outcome::Ended(code) => {
                let exit = Exit {
                    code: code.map(Into::into),
                    ..Exit::default()
                };
                let mut failure = causes::ended(kind, "the host", &exit, &output());
                "`--entrypoint FILE` names another `jupyter` of the host".clone_into(&mut failure.hint);
                Err(failure)
            }
        }
    }

    /// The directory of `-w`, or the user's home.
    async fn workdir(&self) -> Result<PathBuf, Failure> {
        let dir = match self.spec.workdir.as_deref() {
            None | Some("~") => self.host.home.clone(),
            Some(dir) => match dir.strip_prefix("~/") {
                Some(rest) => self.host.home.join(rest),
                None => dir.into(),
            },
        };
        let folder = dir.clone();
        if run_blocking(move || folder.is_dir()).await {
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

fn lost_token(pid: u32) -> Failure {
    fail(
        FailureKind::HostUnfit,
        "the token of the running Jupyter is lost",
        "your state on the host has none for it",
        format!("end it with `kill {pid}` on the host, and run the same command again"),
    )
}
