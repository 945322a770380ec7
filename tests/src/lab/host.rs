//! A host: a network namespace and a user with a home.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::plan::HostName;
use super::user::User;
use super::{netns, tools};

/// A host of a lab. Cheap to clone; it stays usable for as long as the lab is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Host {
    /// The host's role in the topology.
    pub name: HostName,
    /// The network namespace, as `ip netns` lists it.
    pub netns: String,
    /// The host's user.
    pub user: User,
    /// The directory of this host's files, including the home.
    pub dir: PathBuf,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// Its IPv6 address.
    pub address6: Ipv6Addr,
    /// Additional variables of the user's environment, in local commands and in SSH sessions.
    pub env: Vec<(String, String)>,
}

impl Host {
    /// A command that runs on this host as its user, in the user's home, with a clean environment. The spawned process
    /// becomes the program itself, so its id and its signals are the program's.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let (uid, gid) = (self.user.uid.to_string(), self.user.gid.to_string());
        let mut command = self.enter_command();
        command.args([
            "setpriv",
            "--reuid",
            &uid,
            "--regid",
            &gid,
            "--init-groups",
            "--inh-caps=-all",
            "--",
        ]);
        command.arg(program.as_ref()).env_clear().envs(self.environment());
        command.current_dir(&self.user.home);
        command
    }

    /// A command that runs on this host as root, with the lab's own environment.
    pub fn root_command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.enter_command();
        command.arg(program.as_ref());
        command
    }

    /// Runs a line of `/bin/sh` on this host as its user. Returns its stdout. Fails unless it exits with 0.
    pub fn run(&self, line: &str) -> Result<String> {
        tools::output(self.command("/bin/sh").arg("-c").arg(line))
            .with_context(|| format!("on {}", self.name))
    }

    /// Runs a line of `/bin/sh` on this host as root. Returns its stdout. Fails unless it exits with 0.
    pub fn run_as_root(&self, line: &str) -> Result<String> {
        tools::output(self.root_command("/bin/sh").arg("-c").arg(line))
            .with_context(|| format!("on {}, as root", self.name))
    }

    /// Calls `act` on a thread in this host's network namespace. A socket that is opened there stays in that namespace,
    /// wherever it is used afterwards.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        netns::enter(&self.netns, act)
    }

    /// The user's home.
    pub fn home(&self) -> &Path {
        &self.user.home
    }

    /// Writes a file that belongs to the user, and creates its parent directories. `path` is relative to the home.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
        self.user.write(&self.user.home.join(path), content, 0o644)
    }

    /// Copies a program to the first directory of the user's PATH, in local commands and in SSH sessions.
    pub fn install(&self, program: &Path, name: &str) -> Result<()> {
        let (target, draft) = (self.bin().join(name), self.bin().join(format!(".{name}.new")));
        // A running program cannot be overwritten, but it can be replaced by renaming.
        fs::copy(program, &draft).with_context(|| format!("cannot copy {}", program.display()))?;
        executable(&draft)?;
        fs::rename(&draft, &target).with_context(|| format!("cannot put {} in place", target.display()))
    }

    /// Writes a script to the first directory of the user's PATH, in local commands and in SSH sessions.
    pub fn install_script(&self, name: &str, script: &str) -> Result<()> {
        let target = self.bin().join(name);
        fs::write(&target, script).with_context(|| format!("cannot write {}", target.display()))?;
        executable(&target)
    }

    /// Removes a program that [`Self::install`] or [`Self::install_script`] installed.
    pub fn uninstall(&self, name: &str) -> Result<()> {
        let target = self.bin().join(name);
        fs::remove_file(&target).with_context(|| format!("cannot remove {}", target.display()))
    }

    /// The first directory of the user's PATH.
    pub(crate) fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub(crate) fn search_path(&self) -> String {
        format!("{}:/usr/local/bin:/usr/bin:/bin", self.bin().display())
    }

    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let home = self.user.home.to_string_lossy().into_owned();
        let own = [
            ("XDG_CONFIG_HOME", format!("{home}/.config")),
            ("XDG_STATE_HOME", format!("{home}/.local/state")),
            (
                "XDG_RUNTIME_DIR",
                self.runtime_dir().to_string_lossy().into_owned(),
            ),
            ("HOME", home),
            ("USER", self.user.name.clone()),
            ("LOGNAME", self.user.name.clone()),
            ("SHELL", "/bin/bash".into()),
            ("PATH", self.search_path()),
            ("TERM", "xterm-256color".into()),
            ("LANG", "C.UTF-8".into()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.env.iter().cloned()).collect()
    }

    /// Uses `nsenter`, because `ip netns exec` would hide the control groups, which an engine needs.
    fn enter_command(&self) -> Command {
        let mut command = Command::new(tools::find("nsenter").unwrap_or_else(|| "nsenter".into()));
        command
            .arg(format!("--net={}", netns::file(&self.netns).display()))
            .arg("--");
        command.env("PATH", tools::path());
        command
    }
}

fn executable(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))
}
