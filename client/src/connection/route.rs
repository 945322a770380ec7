//! The target of a connection, and the user's options for the route to it.

use std::{fmt, path::PathBuf};

/// The host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// This machine, without ssh.
    Local,
    /// An ssh destination, as the user wrote it.
    Ssh(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("this machine"),
            Self::Ssh(destination) => f.write_str(destination),
        }
    }
}

/// Which paths may be used (`--path`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathChoice {
    /// All; the best one that works.
    Auto,
    /// Only direct UDP.
    Direct,
    /// Only UDP through relays on the jump hosts.
    Relay,
    /// Only the ssh channel.
    Ssh,
}

/// A target, and the options for the route to it.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The host.
    pub(crate) target: Target,
    /// Configuration file for ssh (`-F`).
    pub(crate) ssh_config: Option<PathBuf>,
    /// Jump hosts for ssh (`-J`).
    pub(crate) jump: Option<String>,
    /// Options for ssh (`-o`), `KEY=VALUE` each.
    pub(crate) ssh_options: Vec<String>,
    /// Which paths may be used.
    pub(crate) path: PathChoice,
    /// Folder with agent binaries that take precedence over the bundled ones.
    pub(crate) agent_dir: Option<PathBuf>,
}

impl Route {
    /// A text that is equal for equal routes. The folder with agents does not count: their hashes do.
    pub(super) fn fingerprint(&self) -> String {
        let Self {
            target,
            ssh_config,
            jump,
            ssh_options,
            path,
            agent_dir: _,
        } = self;
        format!("{target:?} {ssh_config:?} {jump:?} {ssh_options:?} {path:?}")
    }
}
