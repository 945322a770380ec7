//! Simulated GPUs: an `nvidia-smi` for the host, and the hook with which an engine passes GPUs to containers.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::host::Host;

const SMI: &str = include_str!("../../images/gpu/nvidia-smi.sh");
const HOOK: &str = include_str!("../../images/gpu/nvidia-container-runtime-hook.py");

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
        let write = |name: &str, content: &str, mode| -> Result<()> {
            let file = dir.join(name);
            fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).context("cannot set a mode")
        };
        write("nvidia-container-runtime-hook", HOOK, 0o755)?;
        write("nvidia-smi", SMI, 0o644)?;
        write("gpus", &self.list(), 0o644)?;
        if matches!(self, Self::BrokenHook(_)) {
            write("broken", "", 0o644)?;
        }
        Ok(Some(dir))
    }

    fn list(self) -> String {
        let mut text = String::new();
        for index in 0..self.count() {
            let _ = writeln!(text, "{index} {}", Self::uuid(index));
        }
        text
    }
}
