//! This machine as a host, without ssh.

use std::{ffi::OsString, sync::Arc};

use tokio::process::Command;

use super::shell::{self, RemoteHost, Shell};
use crate::error::Failure;

/// Runs `/bin/sh` on this machine.
pub(crate) struct Local {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Local {
    /// This machine, as the current user.
    pub(crate) fn new() -> Self {
        Self {
            program: "/bin/sh".into(),
            arguments: vec!["-s".into()],
            environment: Vec::new(),
        }
    }
}

#[cfg(test)]
impl Local {
    /// Replaces `/bin/sh` by another command.
    pub(crate) fn with_shell<S: Into<OsString>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        let mut words = words.into_iter().map(Into::into);
        if let Some(program) = words.next() {
            self.program = program;
            self.arguments = words.collect();
        }
        self
    }

    /// Sets an environment variable of the shell.
    pub(crate) fn with_variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }
}

impl RemoteHost for Local {
    fn name(&self) -> &str {
        "this machine"
    }

    fn shell(&self) -> Result<Shell, Failure> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().cloned());
        Shell::start(self.name(), command, None, Arc::default())
            .map_err(|e| shell::cannot_start(&self.program.to_string_lossy(), &e))
    }
}
