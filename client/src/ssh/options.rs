//! Options for running ssh.

use std::{ffi::OsString, path::PathBuf};

/// Options for all hosts of a chain.
#[derive(Clone, Debug)]
pub(crate) struct SshOptions {
    /// The program, by default `ssh` from PATH.
    pub(crate) program: OsString,
    /// Configuration file that replaces the user's own (`-F`).
    pub(crate) config: Option<PathBuf>,
    /// Jump hosts of the target (`-J`).
    pub(crate) jump: Option<String>,
    /// Options for the target (`-o`), `KEY=VALUE` each.
    pub(crate) options: Vec<String>,
    /// Existing private folder for control sockets. If its path is too long, a private folder in /tmp is used.
    pub(crate) sockets: PathBuf,
    /// Whether standard error is a terminal: ssh then gets a pseudo-terminal for its messages.
    pub(crate) terminal: bool,
    /// Batch mode: ssh fails where it would ask, and after a minute per host. Keys without passphrase and keys of an
    /// ssh-agent work.
    pub(crate) batch: bool,
    /// Whether all jump hosts have to be connected to, even if a connection that the user has open leads past them.
    pub(crate) needs_gateways: bool,
}

impl SshOptions {
    /// The defaults, with control sockets in `sockets`.
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
            needs_gateways: false,
        }
    }
}
