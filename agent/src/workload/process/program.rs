//! Chooses the `jupyter` to start: the one that the user names, the user's own, or one in a private virtual environment.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use jq_common::protocol::workload::{Failure, FailureKind, JupyterKind};

use super::{
    Run, login_shell,
    venv::{self, VenvError},
};
use crate::{
    failure::fail,
    host_program,
    workload::{events::Throttle, jupyter},
};

/// Time limit for `jupyter lab --version`, which is slow on a cold disk.
const VERSION: Duration = Duration::from_secs(60);

/// The first versions of the servers that listen on a Unix socket.
const SERVER: (&str, Version) = ("jupyter_server", (1, 9));
const NOTEBOOK: (&str, Version) = ("notebook", (6, 1));

/// Major and minor version.
type Version = (u32, u32);

/// Why a `jupyter` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unfit {
    /// It does not have what was asked for, or does not run.
    Lacks,
    /// Its server cannot listen on a Unix socket; what it is.
    TooOld(String),
}

impl Run<'_> {
    /// Finds a `jupyter` of the requested kind. Says which was taken and how to name another.
    pub(crate) async fn program(&self) -> Result<PathBuf, Failure> {
        if let Some(named) = &self.spec.entrypoint {
            return self.named(named).await;
        }
        let own = login_shell::find_jupyter(self.host).await;
        let on_path = host_program::find_all("jupyter", self.search_path());
        let found = own
            .iter()
            .map(|program| (program.clone(), "as your login shell finds it"));
        let found = found.chain(on_path.map(|program| (program, "the first on PATH that works")));
        for (program, how) in found {
            match self.check(&program).await {
                Ok(()) => {
                    let name = program.display();
                    self.events
                        .note(format!("using {name}, {how}; `--entrypoint FILE` names another"))
                        .await;
                    return Ok(program);
                }
                Err(Unfit::Lacks) => {}
                Err(Unfit::TooOld(what)) => {
                    let name = program.display();
                    self.events
                        .note(format!("not using {name}: {}", too_old(&what)))
                        .await;
                }
            }
        }
        self.private().await
    }

    /// The program of `--entrypoint`.
    async fn named(&self, named: &str) -> Result<PathBuf, Failure> {
        let program = match named.strip_prefix("~/") {
            Some(rest) => self.host.home.join(rest),
            None => PathBuf::from(named),
        };
        let refuse = |why: String| {
            let what = format!("cannot start `{named}`");
            let hint = "name a program `jupyter` of the host, as in `--entrypoint ~/env/bin/jupyter`; or leave it out";
            fail(FailureKind::BadRequest, what, why, hint)
        };
        if !program.is_absolute() || program.file_name().is_none_or(|name| name != "jupyter") {
            return Err(refuse(
                "with `--engine process` it is the `jupyter` to start".into(),
            ));
        }
        match self.check(&program).await {
            Ok(()) => Ok(program),
            Err(Unfit::Lacks) => Err(refuse(format!(
                "`{} {} --version` fails on the host",
                program.display(),
                self.verb()
            ))),
            Err(Unfit::TooOld(what)) => Err(refuse(too_old(&what))),
        }
    }

    fn verb(&self) -> &'static str {
        jupyter::verb(self.spec.jupyter).unwrap_or("lab")
    }

    /// Whether this `jupyter` has what was asked for, and a server that can listen on a socket.
    async fn check(&self, program: &Path) -> Result<(), Unfit> {
        let version = |verb: &'static str| async move {
            let output = host_program::output(program, &[verb, "--version"], VERSION).await;
            let output = output.ok().filter(|output| output.status.success())?;
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let own = version(self.verb()).await.ok_or(Unfit::Lacks)?;
        let server = version("server").await;
        let classic = match self.spec.jupyter {
            JupyterKind::Notebook => Some(own),
            _ if server.is_none() => version("notebook").await,
            _ => None,
        };
        can_use_socket(server.as_deref(), classic.as_deref())
    }

    /// The one of the private environment, which is created if needed.
    async fn private(&self) -> Result<PathBuf, Failure> {
        let (kind, verb) = (self.spec.jupyter, self.verb());
        let dir = self.host.home.join(".local/share/jq/venv");
        let packages: &[&str] = if kind == JupyterKind::Notebook {
            &["jupyterlab", "notebook"]
        } else {
            &["jupyterlab"]
        };
        let complete = venv::find(&dir, packages).is_some();
        if !complete || !venv::works(&dir, verb).await {
            self.events
                .step(format!("installing {} for jq, once", jupyter::name(kind)))
                .await;
            let why = if complete {
                format!(
                    "jq's private environment no longer works and is created again: {}",
                    dir.display()
                )
            } else {
                format!(
                    "your login shell and PATH have no {} that works, so jq creates a private environment: {}; \
                     `--entrypoint FILE` names a `jupyter` of yours",
                    jupyter::name(kind),
                    dir.display()
                )
            };
            self.events.note(why).await;
            let throttle = Throttle::default();
            let progress = |packages, line: &str| {
                if throttle.due() {
                    self.events.detail(packages, line);
                }
            };
            venv::create(&dir, packages, verb, &self.host.path, &progress)
                .await
                .map_err(|error| venv_failure(&dir, &error))?;
        } else {
            self.events
                .note(format!(
                    "using jq's private environment {}, as your login shell and PATH have no {} that works; \
                     `--entrypoint FILE` names a `jupyter` of yours",
                    dir.display(),
                    jupyter::name(kind)
                ))
                .await;
        }
        Ok(dir.join("bin/jupyter"))
    }
}

fn too_old(what: &str) -> String {
    format!(
        "its {what} cannot listen on a Unix socket, and others could reach a port; {} {}.{} or {} {}.{} can",
        SERVER.0, SERVER.1.0, SERVER.1.1, NOTEBOOK.0, NOTEBOOK.1.0, NOTEBOOK.1.1
    )
}

/// Whether a server can listen on a Unix socket, by what it and the classic notebook print as their version.
fn can_use_socket(server: Option<&str>, classic: Option<&str>) -> Result<(), Unfit> {
    let (name, least, version) = match (server, classic) {
        // Since version 7, Jupyter Notebook runs on jupyter_server.
        (_, Some(text)) if parse(text).is_some_and(|version| version < (7, 0)) => {
            (NOTEBOOK.0, NOTEBOOK.1, parse(text))
        }
        (Some(text), _) => (SERVER.0, SERVER.1, parse(text)),
        (None, _) => return Err(Unfit::Lacks),
    };
    match version {
        Some(version) if version < least => Err(Unfit::TooOld(format!("{name} {}.{}", version.0, version.1))),
        Some(_) => Ok(()),
        None => Err(Unfit::Lacks),
    }
}

/// The version in the last line.
fn parse(text: &str) -> Option<Version> {
    let mut parts = text.trim().lines().last()?.trim().split('.');
    let mut number = || parts.next()?.parse().ok();
    Some((number()?, number()?))
}

fn venv_failure(dir: &Path, error: &VenvError) -> Failure {
    let hint = match error {
        VenvError::NoPython => "install Python 3 (`sudo apt install python3 python3-venv`), or JupyterLab",
        VenvError::NoVenv(_) => "`sudo apt install python3-venv`, or install JupyterLab yourself",
        VenvError::Pip(_) => {
            "pip needs access to a package index: check the host's network, or install JupyterLab yourself"
        }
        VenvError::Io(_) => "free some space there, or make it writable for you",
    };
    fail(
        FailureKind::HostUnfit,
        format!("cannot create an environment for Jupyter in {}", dir.display()),
        error.to_string(),
        hint,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_cannot_use_a_socket_is_named_with_its_version() {
        let old = |what: &str| Err(Unfit::TooOld(what.to_owned()));
        for (server, classic, expected) in [
            (Some("2.14.0\n"), None, Ok(())),
            (Some("a warning\n1.9.0"), None, Ok(())),
            (Some("1.5.1"), None, old("jupyter_server 1.5")),
            (Some("2.14.0"), Some("7.2.0"), Ok(())),
            (Some("1.24.0"), Some("6.5.2"), Ok(())),
            (Some("2.14.0"), Some("6.0.3"), old("notebook 6.0")),
            (None, Some("6.4.12"), Ok(())),
            (None, Some("5.7.8"), old("notebook 5.7")),
            (None, None, Err(Unfit::Lacks)),
            (Some("what?"), None, Err(Unfit::Lacks)),
        ] {
            assert_eq!(
                can_use_socket(server, classic),
                expected,
                "{server:?} {classic:?}"
            );
        }
        assert!(
            too_old("notebook 6.0").contains("notebook 6.0") && too_old("").contains("jupyter_server 1.9")
        );
    }
}
