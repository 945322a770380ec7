//! A daemon that the lab starts and stops.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::eventually::eventually;

/// A running daemon. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with stdout and stderr in the log file, and in a new process group: Ctrl-C at the terminal must reach only
    /// the lab, which then stops its daemons itself.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let open = || File::options().create(true).append(true).open(log);
        let file = open().with_context(|| format!("cannot open {}", log.display()))?;
        let copy = file.try_clone().context("cannot share the log file")?;
        command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.into(),
            child,
            log: log.into(),
        })
    }

    /// Fails if the process has ended. The error has the end of its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().context("cannot wait for a daemon")? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(8)..].join("\n");
            bail!("{} ended ({status}); its log ends with:\n{end}", self.name);
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Kills it at once.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.stop(Duration::ZERO)
    }

    /// Sends SIGTERM, and SIGKILL if the process has not ended after `grace`.
    pub(crate) fn stop(&mut self, grace: Duration) -> Result<()> {
        if self
            .child
            .try_wait()
            .context("cannot wait for a daemon")?
            .is_some()
        {
            return Ok(());
        }
        if !grace.is_zero()
            && let Some(pid) = self.pid()
        {
            // The process is not reaped yet, so its id cannot have been reused.
            let _ = kill_process(pid, Signal::TERM);
        }
        let child = &mut self.child;
        if eventually(&self.name, grace, || matches!(child.try_wait(), Ok(Some(_)))).is_err() {
            child
                .kill()
                .with_context(|| format!("cannot kill {}", self.name))?;
            child
                .wait()
                .with_context(|| format!("{} does not end after SIGKILL", self.name))?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.stop(Duration::from_secs(2));
    }
}
