//! Chooses the `jupyter` to start: one on PATH, or one in a private virtual environment.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use jq_common::protocol::workload::{Failure, FailureKind, JupyterKind};

use super::{
    Run,
    venv::{self, VenvError},
};
use crate::{
    failure::fail,
    host_program,
    workload::{events::Throttle, jupyter},
};

/// Time limit for `jupyter lab --version`, which is slow on a cold disk.
const VERSION: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// Finds a `jupyter` of the requested kind: on PATH, or in the private environment, which is created if needed.
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
                    "there is no {} on PATH, so jq creates a private environment: {}",
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
        }
        Ok(dir.join("bin/jupyter"))
    }
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
