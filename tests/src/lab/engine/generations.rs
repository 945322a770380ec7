//! Engines of other generations than the machine's own dockerd: how they are started and reached.
//!
//! Each runs in a mount namespace of its own, with its suite as the root directory. Its mounts go when it ends.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::super::{place, tools};
use super::{Engine, root};
use crate::lab::generation::{Family, Generation};

const ENTER: &str = include_str!("../../../images/root/enter.sh");

/// Debian's starter of dockerd without root.
const ROOTLESS: &str = "/usr/share/docker.io/contrib/dockerd-rootless.sh";

impl Engine {
    /// The command that runs this generation's service on the GPU host.
    pub(super) fn service(&self) -> Result<Command> {
        match (self.generation, self.generation.family()) {
            (Generation::Docker20, _) => {
                let dockerd = tools::must_find("dockerd")?;
                let mut command = match self.launcher.split_first() {
                    Some((program, words)) => {
                        let mut command = self.host.root_command(program);
                        command.args(words).arg(dockerd);
                        command
                    }
                    None => self.host.root_command(dockerd),
                };
                self.configure_dockerd(&mut command)?;
                Ok(command)
            }
            (Generation::Rootless, _) => self.rootless_dockerd(),
            (_, Family::Docker) => {
                let mut command = self.command_inside("dockerd")?;
                self.configure_dockerd(&mut command)?;
                if self.generation == Generation::Remapped {
                    command.args(["--userns-remap", "default"]);
                }
                Ok(command)
            }
            (_, Family::Podman) => self.podman_service(),
        }
    }

    /// The command line of this generation, `docker` or `podman`, where its service runs. Fails if that is stopped.
    pub(super) fn command_line(&self) -> Result<Command> {
        if self.generation == Generation::Docker20 {
            return Ok(tools::command::<&str>("docker", []));
        }
        let pid = self.pid().context("the engine is stopped")?;
        let target = format!("--target={}", pid.as_raw_nonzero());
        let mut command = tools::command("nsenter", [target.as_str(), "--mount", "--net", "--"]);
        match self.generation.family() {
            Family::Docker => command.arg("docker"),
            Family::Podman => command.arg("podman").envs(self.podman_environment()),
        };
        Ok(command)
    }

    /// The directory in which this generation keeps images and containers.
    pub(super) fn data_root(&self) -> PathBuf {
        match self.generation {
            Generation::Docker20 => super::data_root(),
            other => data_roots().join(other.name()),
        }
    }

    /// A program of this generation's suite, in a mount namespace of its own and in the GPU host's network.
    pub(super) fn command_inside(&self, program: &str) -> Result<Command> {
        let root = self.generation.suite().map_or_else(|| Ok("/".into()), root::of)?;
        let mut command = self.host.root_command("unshare");
        command
            .args(["--mount", "sh", "-c", ENTER, "enter.sh"])
            .arg(&root);
        command.args(self.mounts(&root)?).args(["--", program]);
        Ok(command)
    }

    /// What the suite sees of this machine, as sources and targets.
    fn mounts(&self, root: &Path) -> Result<Vec<OsString>> {
        let mut mounts = Vec::new();
        let mut add = |source: PathBuf, target: PathBuf| mounts.extend([source.into(), target.into()]);
        let of_root = root != Path::new("/");
        if of_root {
            for same in ["/proc", "/sys", "/dev", "/tmp"].map(PathBuf::from) {
                add(same.clone(), same);
            }
            for same in [self.id.dir(), place::cache().join("images")] {
                add(same.clone(), same);
            }
        }
        if self.generation == Generation::Rootless {
            // The user and its subordinate ids. Its images are in its home.
            for file in ["/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid"].map(PathBuf::from) {
                add(file.clone(), file);
            }
        } else if of_root {
            let data = self.data_root();
            fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
            add(data.clone(), data);
        }
        if let Some(cdi) = &self.cdi {
            add(cdi.clone(), "/etc/cdi".into());
        }
        Ok(mounts)
    }

    fn rootless_dockerd(&self) -> Result<Command> {
        let user = &self.host.user;
        // Every user's, as udev has it on every distribution: the network of containers is a TAP device.
        fs::set_permissions("/dev/net/tun", fs::Permissions::from_mode(0o666))
            .context("cannot open /dev/net/tun to users")?;
        let mut command = self.command_inside("setpriv")?;
        command.args([
            &format!("--reuid={}", user.uid),
            &format!("--regid={}", user.gid),
            "--init-groups",
            "--inh-caps=-all",
            "sh",
            ROOTLESS,
        ]);
        command.env_clear().envs(self.host.environment());
        command
            .env("PATH", tools::path())
            .env("DOCKERD_ROOTLESS_ROOTLESSKIT_NET", "slirp4netns");
        Ok(command)
    }
}

/// The parent of the directories in which other generations keep their images.
pub(super) fn data_roots() -> PathBuf {
    place::cache().join("engines")
}
