//! The program that is started: the `jupyter` on PATH, or one of a private virtual environment.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use jq_common::protocol::workload::{Failure, FailureKind, JupyterKind};

use super::{
    Session,
    venv::{self, VenvError},
};
use crate::{
    failure::fail,
    host_program,
    workload::{events::Throttle, jupyter},
};

/// How long `jupyter lab --version` may take on a cold disk.
const VERSION: Duration = Duration::from_secs(60);

impl Session<'_> {
    /// The `jupyter` that has what was asked for: on PATH, or in the private environment, which is made if need be.
    pub(crate) async fn program(&self) -> Result<PathBuf, Failure> {
        let kind = self.spec.jupyter;
        let verb = jupyter::verb(kind).unwrap_or("lab");
        for program in host_program::find_all("jupyter", &self.host.path) {
            if host_program::output(&program, &[verb, "--version"], VERSION)
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
        let whole = venv::find(&dir, packages).is_some();
        if !whole || !venv::works(&dir, verb).await {
            self.events
                .step(format!("installing {} for jq, once", jupyter::name(kind)))
                .await;
            let why = if whole {
                format!(
                    "jq's private environment no longer works and is made anew: {}",
                    dir.display()
                )
            } else {
                format!(
                    "there is no {} on PATH, so jq makes a private environment: {}",
                    jupyter::name(kind),
                    dir.display()
                )
            };
            self.events.note(why).await;
            let throttle = Throttle::default();
            let progress = |met, line: &str| {
                if throttle.due() {
                    self.events.detail(met, line);
                }
            };
            venv::make(&dir, packages, verb, &self.host.path, &progress)
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
