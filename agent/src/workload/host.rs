//! Facts about the host.

use std::{ffi::OsString, path::PathBuf};

use jq_common::login::Login;

/// Facts about the host and the user on it, collected once by the caller; nothing in here reads the environment.
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
    /// The user's login shell (`SHELL`).
    pub(crate) shell: Option<PathBuf>,
    /// `DOCKER_HOST`.
    pub(crate) docker_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub(crate) docker_context: Option<String>,
    /// `DOCKER_CONFIG`; none for `~/.docker`.
    pub(crate) docker_config: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`.
    pub(crate) registry_auth_file: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub(crate) xdg_runtime_dir: Option<PathBuf>,
    /// Private folder (0700) that outlives agents: tokens, records of containers and processes.
    pub(crate) state_dir: PathBuf,
    /// Private folder (0700) of this agent.
    pub(crate) run_dir: PathBuf,
    /// The login that the agent works for.
    pub(crate) login: Login,
    /// This program's binary, for the helper's image.
    pub(crate) agent_binary: PathBuf,
}

/// The umask of most logins, where the login's own is not known.
const USUAL_UMASK: u32 = 0o022;

impl HostContext {
    /// The umask for what is started: the agent's own is strict, and files of a notebook may be meant for others.
    #[must_use]
    pub(crate) fn umask(&self) -> u32 {
        self.login.umask.unwrap_or(USUAL_UMASK)
    }

    /// The folder of the `docker` command's settings.
    pub(crate) fn docker_config(&self) -> PathBuf {
        let own = self.docker_config.clone();
        own.unwrap_or_else(|| self.home.join(".docker"))
    }

    /// The user's folder for sockets and other short-lived files.
    pub(crate) fn runtime_dir(&self) -> PathBuf {
        let own = self.xdg_runtime_dir.clone();
        own.unwrap_or_else(|| format!("/run/user/{}", self.uid).into())
    }
}
