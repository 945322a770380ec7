//! Chromium on a host of the lab, driven by a script.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;

use super::host::Host;
use super::place::{self, Lock};
use super::tools;
use crate::eventually::eventually_some;

const SCRIPT: &str = include_str!("../../browser/jupyter.py");

/// Chromium, driven through Playwright.
#[derive(Debug)]
pub struct Browser {
    python: PathBuf,
}

/// The result of a visit to JupyterLab.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Visit {
    /// The notebook that was used.
    pub notebook: String,
    /// Seconds from the browser's start to the end of each step.
    pub seconds: BTreeMap<String, f64>,
}

impl Browser {
    /// Installs the driver into the cache, from the package index that pip is configured for, unless it is there already.
    /// Chromium itself must be installed.
    pub fn install() -> Result<Self> {
        tools::must_find("chromium")?;
        let dir = place::cache().join("browser");
        let _lock = Lock::wait(&place::cache().join("browser.lock"))?;
        let python = dir.join("bin/python");
        let done = dir.join("done");
        if !done.exists() {
            // The system's Python, because the hosts' users cannot read one in root's home.
            tools::run(
                "/usr/bin/python3",
                ["-m", "venv", "--clear", &dir.to_string_lossy()],
            )?;
            tools::run(
                &python.to_string_lossy(),
                ["-m", "pip", "install", "--quiet", "playwright"],
            )?;
            fs::write(&done, "").context("cannot record that the browser driver is installed")?;
        }
        Ok(Self { python })
    }

    /// A Python interpreter with the driver, for the caller's own script.
    pub(crate) fn python(&self) -> &Path {
        &self.python
    }

    /// As the host's user: opens JupyterLab at `url`, creates a notebook, prints, plots and sets a variable in it. Fails
    /// unless all of this appears on the page. The screenshot (PNG) is written in any case.
    pub fn use_jupyter(&self, host: &Host, url: &str, screenshot: &Path) -> Result<Visit> {
        self.visit(host, "first", url, screenshot, &[])
    }

    /// As the host's user, with a fresh browser profile: opens the notebook of an earlier [`Self::use_jupyter`]. Fails unless
    /// its kernel still has the variable.
    pub fn use_jupyter_again(
        &self,
        host: &Host,
        url: &str,
        notebook: &str,
        screenshot: &Path,
    ) -> Result<Visit> {
        self.visit(host, "again", url, screenshot, &["--notebook", notebook])
    }

    /// As the host's user: opens JupyterLab at `url` and runs a cell in a new notebook that counts to 60, one number per
    /// second. Calls `begun` when the first numbers are on the page. Fails unless every number appears, in order, without a
    /// reload, and without a message from JupyterLab about its connection.
    pub fn count_in_jupyter(
        &self,
        host: &Host,
        url: &str,
        screenshot: &Path,
        begun: impl FnOnce() -> Result<()>,
    ) -> Result<Visit> {
        const START: Duration = Duration::from_secs(90);
        let sign = host.home().join("counting");
        let (over, is_over) = (AtomicBool::new(false), "the browser ended before it counted");
        thread::scope(|scope| {
            let visit = scope.spawn(|| {
                let visit = self.visit(
                    host,
                    "count",
                    url,
                    screenshot,
                    &["--begun", &sign.to_string_lossy()],
                );
                over.store(true, Ordering::Relaxed);
                visit
            });
            let started = eventually_some("the browser to count", START, || {
                let over = over.load(Ordering::Relaxed);
                Ok((over || sign.exists()).then_some(()))
            });
            let done = match started {
                Ok(()) if sign.exists() => begun(),
                Ok(()) => Err(anyhow!(is_over)),
                Err(error) => Err(error),
            };
            // The browser's own error is more useful than the timeout.
            let visit = visit
                .join()
                .map_err(|_| anyhow!("the browser's thread panicked"))??;
            done.map(|()| visit)
        })
    }

    fn visit(&self, host: &Host, mode: &str, url: &str, screenshot: &Path, more: &[&str]) -> Result<Visit> {
        host.write("jupyter.py", SCRIPT)?;
        let picture = host.home().join("screenshot.png");
        let mut command = host.command(&self.python);
        command
            .arg(host.home().join("jupyter.py"))
            .args([mode, url, "--screenshot"])
            .arg(&picture)
            .args(more);
        let said = tools::output(&mut command);
        if picture.exists() {
            fs::copy(&picture, screenshot)
                .with_context(|| format!("cannot write {}", screenshot.display()))?;
        }
        serde_json::from_str(said?.trim()).context("the browser driver printed something unexpected")
    }
}
