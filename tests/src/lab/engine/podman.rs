//! Podman's service as root, with all its files in the lab's own directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, getrlimit};

use super::super::tools;
use super::Engine;

/// Processes and threads of a container.
const PROCESSES: u64 = 8192;

impl Engine {
    /// Podman's service, which keeps running without requests.
    pub(super) fn podman_service(&self) -> Result<Command> {
        let settings = self.write_podman_settings()?;
        let mut command = self.command_inside("podman")?;
        command.envs(settings);
        command.args(["system", "service", "--time", "0"]);
        command.arg(format!("unix://{}", self.socket().display()));
        Ok(command)
    }

    /// Lets the lab's group use the socket, as administrators do it with Podman's.
    pub(super) fn open_socket(&self) -> Result<()> {
        let socket = self.socket();
        let group = self.id.docker_group();
        tools::run("chgrp", [group.as_str(), &*socket.to_string_lossy()])?;
        tools::run("chmod", ["660", &*socket.to_string_lossy()]).map(drop)
    }

    /// The variables that make `podman` use the lab's settings.
    pub(super) fn podman_environment(&self) -> [(&'static str, PathBuf); 2] {
        let dir = self.podman_dir();
        [
            ("CONTAINERS_CONF", dir.join("containers.conf")),
            ("CONTAINERS_STORAGE_CONF", dir.join("storage.conf")),
        ]
    }

    fn podman_dir(&self) -> PathBuf {
        self.host.dir.join("podman")
    }

    fn write_podman_settings(&self) -> Result<[(&'static str, PathBuf); 2]> {
        let dir = self.podman_dir();
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let files = self.podman_environment();
        for ((_, file), text) in files.iter().zip([containers(&dir), storage(&self.data_root())]) {
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(files)
    }
}

/// The control groups of Podman's containers, relative to a hierarchy's root. Podman's parent group is the same for all labs, so
/// these are found by the containers that the data roots have.
pub(super) fn control_groups(data_roots: &Path) -> Vec<String> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let containers = entries(data_roots).flat_map(|root| entries(&root.path().join("overlay-containers")));
    let ids = containers.filter_map(|entry| entry.file_name().into_string().ok());
    ids.map(|id| format!("libpod_parent/libpod-{id}")).collect()
}

/// containers.conf(5). Podman sets limits on files and processes that root may not set on every machine, unless it is told
/// others. Its API exchanges soft and hard limit (4.3), so they are the same.
fn containers(dir: &Path) -> String {
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20);
    format!(
        "[containers]\ndefault_ulimits = [\"nofile={files}:{files}\", \"nproc={PROCESSES}:{PROCESSES}\"]\n\
         [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{dir}/networks\"\n\
         [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
         lock_type = \"file\"\n",
        dir = dir.display()
    )
}

/// containers-storage.conf(5). The database in `data` keeps the path of `runroot` for all labs. /run is empty at each start.
fn storage(data: &Path) -> String {
    format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"/run/containers/storage\"\n",
        data.display()
    )
}
