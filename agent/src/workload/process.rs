//! Jupyter as a process of the host: found by its record, or started from PATH or a private virtual environment.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jq_common::protocol::control::{
    Failure, FailureKind, GpuAsk, JupyterInfo, JupyterKind, Ready, WorkloadSpec,
};

use super::{
    HostContext, Started,
    events::{EventSink, Throttle},
    failure::fail,
    gpus,
    jupyter_wait::{self, Waited},
    network::Network,
    probe::{Found, probe},
    store::{ProcessRecord, Store},
};
use crate::{
    engine::{
        Exit, host,
        process::{self, Launch},
        venv::{self, VenvError},
    },
    gpu, jupyter,
};

/// How long `jupyter lab --version` may take on a cold disk.
const VERSION: Duration = Duration::from_secs(60);

/// How many lines of its log are looked at when it has failed.
const LOG: usize = 30;

/// Finds or starts the session's process.
pub(super) async fn start(
    host: &HostContext,
    store: &Store,
    spec: &WorkloadSpec,
    events: &EventSink,
) -> Result<Started, Failure> {
    check(host, spec)?;
    let gpus = gpus(host, spec, events).await?;
    let network = Arc::new(Network::host());
    let jupyter = if spec.jupyter == JupyterKind::None {
        None
    } else {
        let token = store
            .token(&spec.session)
            .map_err(|error| state_failure(&error))?;
        let session = Session {
            host,
            store,
            spec,
            events,
            token: &token,
        };
        Some(session.jupyter(&network).await?)
    };
    Ok(Started {
        ready: Ready {
            engine: "process of the host".into(),
            container: None,
            jupyter,
            gpus,
        },
        network,
    })
}

/// What only a container can do is refused: doing something else silently would be worse.
fn check(host: &HostContext, spec: &WorkloadSpec) -> Result<(), Failure> {
    let refuse = |what: &str, why: &str, hint: &str| Err(fail(FailureKind::BadRequest, what, why, hint));
    if spec.image.is_some() || spec.existing_container.is_some() {
        return refuse(
            "a process needs no image or container",
            "`--engine process` runs Jupyter without a container",
            "leave `--engine process` out to use the container, or leave the image out",
        );
    }
    if !spec.volumes.is_empty() {
        return refuse(
            "a process has no volumes",
            "it sees the host's files where they are",
            "leave `-v` out and use `-w FOLDER` to choose where Jupyter opens; or name an image",
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

/// A process sees all GPUs of the host; asked for by number they must be there.
async fn gpus(host: &HostContext, spec: &WorkloadSpec, events: &EventSink) -> Result<Vec<String>, Failure> {
    let there = gpus::of_host(&spec.gpus, &host.path).await;
    let chosen = gpu::choose(&spec.gpus, &there)?;
    if there.is_empty() && spec.gpus != GpuAsk::None {
        events
            .warning("no GPU was found on the host (`nvidia-smi -L` lists none)")
            .await;
    }
    Ok(chosen.into_iter().map(|gpu| gpu.line).collect())
}

struct Session<'a> {
    host: &'a HostContext,
    store: &'a Store,
    spec: &'a WorkloadSpec,
    events: &'a EventSink,
    token: &'a str,
}

impl Session<'_> {
    async fn jupyter(&self, network: &Network) -> Result<JupyterInfo, Failure> {
        let kind = self.spec.jupyter;
        let info = |port, was_running| JupyterInfo {
            port,
            token: self.token.to_owned(),
            path: jupyter::page(kind).to_owned(),
            was_running,
        };
        let workdir = self.workdir()?;
        let record = self.store.process(&self.spec.session);
        if let Some(record) = &record
            && process::start_time(record.pid) == Some(record.start_time)
        {
            if probe(network, record.port, self.token).await != Found::Ours {
                self.wait(network, record, None).await?;
            }
            if self.spec.workdir.is_some() && workdir.to_string_lossy() != record.workdir {
                self.events
                    .note(format!("Jupyter is running already, in {}", record.workdir))
                    .await;
            }
            return Ok(info(record.port, true));
        }
        let program = self.program().await?;
        self.events
            .step(format!("starting {}", jupyter::name(kind)))
            .await;
        let port = process::free_port(record.map(|record| record.port)).map_err(|error| {
            fail(
                FailureKind::HostUnfit,
                "no port is free on the host",
                error.to_string(),
                "try again",
            )
        })?;
        let root = workdir.to_string_lossy().into_owned();
        let launch = self.launch(&program, port, &root);
        let mut child = process::spawn(&launch).map_err(|error| {
            fail(
                FailureKind::StartFailed,
                format!("cannot start {}", program.display()),
                error.to_string(),
                "see whether it runs when started by hand on the host",
            )
        })?;
        let pid = child.id().unwrap_or_default();
        let record = ProcessRecord {
            pid,
            start_time: process::start_time(pid).unwrap_or_default(),
            port,
            verb: jupyter::verb(kind).unwrap_or_default().to_owned(),
            workdir: root,
        };
        if let Err(error) = self.store.set_process(&self.spec.session, &record) {
            // Without a record nobody would find it again.
            let _ = child.kill().await;
            return Err(state_failure(&error));
        }
        self.wait(network, &record, Some(&mut child)).await?;
        Ok(info(port, false))
    }

    fn launch(&self, program: &Path, port: u16, root: &str) -> Launch {
        let as_root = self.host.uid == 0;
        let words = jupyter::command(self.spec.jupyter, port, Some(root), as_root).unwrap_or_default();
        let mut env: Vec<(OsString, OsString)> = vec![(
            jupyter::TOKEN_FILE_VARIABLE.into(),
            self.store.token_file(&self.spec.session).into(),
        )];
        // So that `pip` in a terminal of this Jupyter means its own environment.
        if let Some(bin) = program.parent() {
            let mut path = bin.as_os_str().to_owned();
            path.push(":");
            path.push(&self.host.path);
            env.push(("PATH".into(), path));
        }
        env.extend(
            self.spec
                .env
                .iter()
                .map(|(key, value)| (key.into(), value.into())),
        );
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
        network: &Network,
        record: &ProcessRecord,
        child: Option<&mut tokio::process::Child>,
    ) -> Result<(), Failure> {
        let kind = self.spec.jupyter;
        let log = self.store.log_file(&self.spec.session);
        let last_line = || async { process::tail(&log, 1).pop() };
        let ended = async {
            match child {
                Some(child) => child.wait().await.ok().and_then(|status| status.code()),
                // Not our child: an earlier agent's.
                None => std::future::pending().await,
            }
        };
        let waited = jupyter_wait::wait(network, record.port, self.token, ended, last_line, self.events);
        match waited.await {
            Waited::Ready => Ok(()),
            Waited::Stranger => Err(jupyter_wait::stranger(kind, record.port)),
            Waited::Late(found) => Err(jupyter_wait::late(kind, &found, &process::tail(&log, LOG))),
            Waited::Ended(code) => {
                let exit = Exit {
                    code: code.map(Into::into),
                    ..Exit::default()
                };
                let mut failure = jupyter_wait::ended(kind, "the host", &exit, &process::tail(&log, LOG));
                failure.hint = format!("its whole log is {} on the host", log.display());
                Err(failure)
            }
        }
    }

    /// `-w`, or the user's home.
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
            "Jupyter cannot open there",
            "create it on the host, or give another with `-w`",
        ))
    }

    /// The `jupyter` that has what was asked for: on PATH, or in the private environment, which is made if need be.
    async fn program(&self) -> Result<PathBuf, Failure> {
        let kind = self.spec.jupyter;
        let verb = jupyter::verb(kind).unwrap_or("lab");
        for program in host::find_all("jupyter", &self.host.path) {
            if host::output(&program, &[verb, "--version"], VERSION)
                .await
                .is_ok_and(|output| output.status.success())
            {
                self.events.note(format!("using {}", program.display())).await;
                return Ok(program);
            }
        }
        let dir = self.host.home.join(".local/share/jq/venv");
        let packages: &[&str] = if kind == JupyterKind::Notebook {
            &["jupyterlab", "notebook"]
        } else {
            &["jupyterlab"]
        };
        if venv::find(&dir, packages).is_none() {
            self.events
                .step(format!("installing {} for jq, once", jupyter::name(kind)))
                .await;
            self.events
                .note(format!(
                    "there is no {} on PATH, so jq makes a private environment: {}",
                    jupyter::name(kind),
                    dir.display()
                ))
                .await;
            let throttle = Throttle::default();
            let progress = |met, line: &str| {
                if throttle.due() {
                    self.events.detail(met, line);
                }
            };
            venv::make(&dir, packages, &self.host.path, &progress)
                .await
                .map_err(|error| venv_failure(&dir, &error))?;
        }
        Ok(dir.join("bin/jupyter"))
    }
}

fn venv_failure(dir: &Path, error: &VenvError) -> Failure {
    let hint = match error {
        VenvError::NoPython => "install Python 3 (`sudo apt install python3 python3-venv`), or JupyterLab",
        VenvError::NoVenv(_) => "`sudo apt install python3-venv`, or install JupyterLab yourself",
        VenvError::Pip(_) => {
            "pip needs a way to a package index: see whether the host has one, or install JupyterLab yourself"
        }
        VenvError::Io(_) => "free some space there, or make it writable for you",
    };
    fail(
        FailureKind::HostUnfit,
        format!("cannot make an environment for Jupyter in {}", dir.display()),
        error.to_string(),
        hint,
    )
}

fn state_failure(error: &io::Error) -> Failure {
    fail(
        FailureKind::HostUnfit,
        "cannot keep this session's state",
        error.to_string(),
        "free some space in your home on the host, or make it writable for you",
    )
}
