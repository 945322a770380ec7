//! What is known about the host.

use std::{ffi::OsString, path::PathBuf};

/// What is known about the host and the user on it. Read once, from outside; nothing here reads the environment.
#[derive(Clone, Debug)]
pub struct HostContext {
    /// The user's home.
    pub(crate) home: PathBuf,
    /// The user's id.
    pub(crate) uid: u32,
    /// The user's group.
    pub(crate) gid: u32,
    /// The user's name.
    pub(crate) user: String,
    /// `PATH`.
    pub(crate) path: OsString,
    /// `DOCKER_HOST`.
    pub(crate) docker_host: Option<String>,
    /// `DOCKER_CONFIG`; none for `~/.docker`.
    pub(crate) docker_config: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub(crate) xdg_runtime_dir: Option<PathBuf>,
    /// Private (0700), outlives agents: tokens, records of containers and processes.
    pub(crate) state_dir: PathBuf,
    /// Private (0700), this agent's.
    pub(crate) run_dir: PathBuf,
    /// This very program, for the helper's image.
    pub(crate) agent_binary: PathBuf,
}
