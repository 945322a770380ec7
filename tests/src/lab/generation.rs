//! The generations of engines that a lab can run: which program of which Debian, with which options. Values only.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// An engine of one version, run in one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generation {
    /// This machine's own dockerd. Images are built with it.
    #[default]
    Docker20,
    /// This machine's own Podman, as root.
    Podman4,
    /// dockerd of Debian sid: CDI is on by default.
    Docker28,
    /// Podman of Debian sid, as root: its Docker API accepts CDI devices.
    Podman5,
    /// dockerd of Debian sid with `--userns-remap`: root in a container is nobody on the host.
    Remapped,
    /// dockerd of Debian sid, started by the host's user and without root.
    Rootless,
}

/// The program that a generation consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// dockerd, with the command line `docker`.
    Docker,
    /// Podman's service, with the command line `podman`.
    Podman,
}

impl Generation {
    /// All generations, the cheap ones first.
    pub const ALL: [Self; 6] = [
        Self::Docker20,
        Self::Podman4,
        Self::Docker28,
        Self::Podman5,
        Self::Remapped,
        Self::Rootless,
    ];

    /// Its name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker20 => "docker-20.10",
            Self::Podman4 => "podman-4.3",
            Self::Docker28 => "docker-28.5",
            Self::Podman5 => "podman-5.8",
            Self::Remapped => "docker-userns-remap",
            Self::Rootless => "docker-rootless",
        }
    }

    /// The program that it consists of.
    pub fn family(self) -> Family {
        match self {
            Self::Podman4 | Self::Podman5 => Family::Podman,
            Self::Docker20 | Self::Docker28 | Self::Remapped | Self::Rootless => Family::Docker,
        }
    }

    /// The Debian suite that it comes from; none for this machine's own packages.
    pub(crate) fn suite(self) -> Option<&'static str> {
        match self {
            Self::Docker20 | Self::Podman4 => None,
            Self::Docker28 | Self::Podman5 | Self::Remapped | Self::Rootless => Some("sid"),
        }
    }

    /// Whether it reads CDI specifications without being configured to.
    pub fn has_cdi(self) -> bool {
        self.suite().is_some()
    }

    /// Its API socket on a host with this directory.
    pub(crate) fn socket(self, host: &Path) -> PathBuf {
        match self {
            // The user's own daemon creates it in XDG_RUNTIME_DIR.
            Self::Rootless => host.join("run/docker.sock"),
            _ => host.join("docker.sock"),
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Generation {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|generation| generation.name() == text);
        found.with_context(|| format!("{text}: there is no such engine; there are {names}"))
    }
}
