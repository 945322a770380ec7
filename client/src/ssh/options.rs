//! How ssh is to be run.

use std::{ffi::OsString, path::PathBuf};

/// How ssh is to be run, for every host of a chain.
#[derive(Clone, Debug)]
pub(crate) struct SshOptions {
    /// The program: `ssh`, found on PATH.
    pub(crate) program: OsString,
    /// ssh's `-F`: a configuration in place of the user's own.
    pub(crate) config: Option<PathBuf>,
    /// ssh's `-J` for the target.
    pub(crate) jump: Option<String>,
    /// ssh's `-o` for the target, `KEY=VALUE` each.
    pub(crate) options: Vec<String>,
    /// Where control sockets may be put: an existing folder of the user's own. Where its path is too long for them, a
    /// private folder in /tmp is used.
    pub(crate) sockets: PathBuf,
    /// Whether this process's standard error is a terminal, so that ssh may be given one as well.
    pub(crate) terminal: bool,
    /// Whether nobody may be asked: ssh fails where it would ask, and takes no longer than a minute a host. Keys that
    /// need no passphrase, and those of an ssh-agent, work.
    pub(crate) batch: bool,
}

impl SshOptions {
    /// The user's ssh as it is, with its control sockets in `sockets`.
    #[must_use]
    pub(crate) fn new(sockets: impl Into<PathBuf>) -> Self {
        Self {
            program: "ssh".into(),
            config: None,
            jump: None,
            options: Vec::new(),
            sockets: sockets.into(),
            terminal: false,
            batch: false,
        }
    }
}
