//! Simulated GPUs: an `nvidia-smi` for the host, and the hook with which an engine passes GPUs to containers.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::host::Host;

const SMI: &str = include_str!("../../images/gpu/nvidia-smi.sh");
const HOOK: &str = include_str!("../../images/gpu/nvidia-container-runtime-hook.py");

/// What replaces the list of GPUs in an `nvidia-smi` for containers with CDI devices: it lists the markers that are mounted.
const MARKERS: &str = "$(cat /run/jq-lab-gpus/*)";

/// The simulated GPUs of the GPU host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gpus {
    /// None: there is no `nvidia-smi`, and the engine does not support GPUs.
    #[default]
    None,
    /// This many, and the engine can pass them to containers.
    Working(u32),
    /// This many, but the engine's hook fails when a container with GPUs starts.
    BrokenHook(u32),
    /// This many, but the engine has no hook to pass them to containers.
    NoHook(u32),
}

impl FromStr for Gpus {
    type Err = anyhow::Error;

    /// `2`, `2:broken-hook`, `2:no-hook`; `0` for none.
    fn from_str(text: &str) -> Result<Self> {
        let (count, kind) = text.split_once(':').unwrap_or((text, ""));
        let count = count
            .parse()
            .with_context(|| format!("{text}: not a number of GPUs"))?;
        match (count, kind) {
            (0, "") => Ok(Self::None),
            (count, "") => Ok(Self::Working(count)),
            (count, "broken-hook") => Ok(Self::BrokenHook(count)),
            (count, "no-hook") => Ok(Self::NoHook(count)),
            _ => anyhow::bail!("{text}: write N, N:broken-hook or N:no-hook"),
        }
    }
}

impl Gpus {
    /// Number of GPUs.
    pub fn count(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Working(count) | Self::BrokenHook(count) | Self::NoHook(count) => count,
        }
    }

    /// The UUID of a GPU of the lab.
    pub fn uuid(index: u32) -> String {
        format!("GPU-5c0de000-77aa-4b1d-9d00-{index:012x}")
    }

    /// Installs `nvidia-smi` for the host's user.
    pub(crate) fn equip_host(self, host: &Host) -> Result<()> {
        if self.count() == 0 {
            return Ok(());
        }
        host.install_script("nvidia-smi", &SMI.replace("@GPUS@", self.list().trim()))
    }

    /// Installs the hook in its own directory, which must be on the engine's PATH. None if there is no hook.
    pub(crate) fn equip_engine(self, host: &Host) -> Result<Option<PathBuf>> {
        if matches!(self, Self::None | Self::NoHook(_)) {
            return Ok(None);
        }
        let dir = host.dir.join("hook");
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let write = |name: &str, content: &str, mode| write_file(&dir.join(name), content, mode);
        write("nvidia-container-runtime-hook", HOOK, 0o755)?;
        write("nvidia-smi", SMI, 0o644)?;
        write("gpus", &self.list(), 0o644)?;
        if matches!(self, Self::BrokenHook(_)) {
            write("broken", "", 0o644)?;
        }
        Ok(Some(dir))
    }

    /// Writes CDI specifications as `nvidia-ctk cdi generate` does, for an engine that finds them in /etc/cdi. None if containers
    /// cannot have GPUs. Each device is a marker file in the container, and its `nvidia-smi` lists the markers.
    pub(crate) fn write_cdi(self, host: &Host) -> Result<Option<PathBuf>> {
        let Self::Working(count) = self else {
            return Ok(None);
        };
        let dir = host.dir.join("cdi");
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let write = |name: &str, content: &str, mode| write_file(&dir.join(name), content, mode);
        write("nvidia-smi", &SMI.replace("'@GPUS@'", MARKERS), 0o755)?;
        for index in 0..count {
            write(
                &format!("gpu{index}"),
                &format!("{index} {}\n", Self::uuid(index)),
                0o644,
            )?;
        }
        write("nvidia.json", &self.cdi_specification(&dir).to_string(), 0o644)?;
        Ok(Some(dir))
    }

    /// The devices by index, by UUID, and all.
    fn cdi_specification(self, dir: &Path) -> serde_json::Value {
        let mount = |file: &str, target: &str| {
            let source = dir.join(file);
            json!({ "hostPath": source, "containerPath": target, "options": ["ro", "bind"] })
        };
        let marker = |index: u32| mount(&format!("gpu{index}"), &format!("/run/jq-lab-gpus/{index}"));
        let device = |name: &str, markers: Vec<serde_json::Value>| json!({ "name": name, "containerEdits": { "mounts": markers } });
        let indices = 0..self.count();
        let mut devices = vec![device("all", indices.clone().map(marker).collect())];
        for index in indices {
            devices.push(device(&index.to_string(), vec![marker(index)]));
            devices.push(device(&Self::uuid(index), vec![marker(index)]));
        }
        json!({
            "cdiVersion": "0.5.0",
            "kind": "nvidia.com/gpu",
            "devices": devices,
            "containerEdits": { "mounts": [mount("nvidia-smi", "/usr/bin/nvidia-smi")] },
        })
    }

    fn list(self) -> String {
        let mut text = String::new();
        for index in 0..self.count() {
            let _ = writeln!(text, "{index} {}", Self::uuid(index));
        }
        text
    }
}

fn write_file(file: &Path, content: &str, mode: u32) -> Result<()> {
    fs::write(file, content).with_context(|| format!("cannot write {}", file.display()))?;
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).context("cannot set a mode")
}
