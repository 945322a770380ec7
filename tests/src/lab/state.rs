//! The description of a lab for other processes. It is written when the lab is up.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::host::Host;
use super::place::{self, LabId};
use super::plan::{HostName, Topology};

/// A lab as other processes see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The lab's id.
    pub id: LabId,
    /// The process that owns the lab.
    pub owner: u32,
    /// How its hosts are connected.
    pub topology: Topology,
    /// Its hosts.
    pub hosts: Vec<Host>,
    /// The engine's socket, if the GPU host has one.
    pub engine: Option<PathBuf>,
}

impl State {
    /// Reads the state of a running lab.
    pub fn load(id: &LabId) -> Result<Self> {
        let file = Self::file(id);
        let text = fs::read_to_string(&file).with_context(|| format!("lab {} is not up", id.as_str()))?;
        serde_json::from_str(&text).with_context(|| format!("cannot read {}", file.display()))
    }

    /// All labs on this machine, including those whose owner has died.
    pub fn all() -> Vec<Self> {
        place::ids().iter().filter_map(|id| Self::load(id).ok()).collect()
    }

    /// Whether the lab's owner is running.
    pub fn is_owned(&self) -> bool {
        matches!(place::Lock::try_take(&self.id.owner_lock()), Ok(None))
    }

    /// Whether `jq-lab up` owns it, and not a test.
    pub fn is_held(&self) -> bool {
        self.id.control_socket().exists() && self.is_owned()
    }

    /// A host of this lab; none if the topology does not have it.
    pub fn host(&self, name: HostName) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    pub(crate) fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot encode the lab's state")?;
        let (file, draft) = (Self::file(&self.id), self.id.dir().join("state.new"));
        fs::write(&draft, text).context("cannot write the lab's state")?;
        fs::rename(&draft, &file).context("cannot put the lab's state in place")
    }

    fn file(id: &LabId) -> PathBuf {
        id.dir().join("state.json")
    }
}
