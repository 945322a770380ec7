//! Where to connect, and how to get there: what the user asked for.

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

/// Which paths may carry packets (`--path`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathChoice {
    /// The best that works.
    Auto,
    /// Only UDP straight to the host.
    Direct,
    /// Only UDP through relays on the jump hosts.
    Relay,
    /// Only the ssh channel.
    Ssh,
}

/// A target, and what the user said about the way to it.
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
    /// A folder with agents, besides the bundled ones.
    pub(crate) agent_dir: Option<PathBuf>,
}

impl Route {
    /// What the paths to the target depend on, besides the agent's binary, as a text that is equal for equal routes.
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
