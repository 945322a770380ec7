//! Who runs containers, in our own words.
//!
//! The traits say what a workload needs and what each call promises; `engine::docker` is the only place that speaks an
//! engine's API.

mod archive;
pub(crate) mod credentials;
pub(crate) mod docker;
pub(crate) mod docker_config;
pub(crate) mod socket;
mod spec;

use std::{collections::BTreeMap, path::PathBuf};

use futures_util::future::BoxFuture;

use crate::log_tail::Tail;

#[cfg(feature = "fuzzing")]
pub(crate) use self::archive::unpack_file;
use self::credentials::Credential;
pub(crate) use self::spec::{ContainerSpec, Entry, Exec, GpuRequest, ImportSpec, Limit, Mount, MountSource};

/// The result of a call to an engine.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

/// Runs containers from images.
pub(crate) trait ContainerEngine: Images + Containers {
    /// What is known about the connected engine.
    fn facts(&self) -> &EngineFacts;
}

/// The engine's images.
pub(crate) trait Images: Send + Sync {
    /// Looks up an image by reference; None when the engine does not have it.
    fn image<'a>(&'a self, reference: &'a str) -> Answer<'a, Option<ImageFacts>>;

    /// Pulls an image. An error inside the engine's stream is an error, and so is a stream in which nothing happens for
    /// too long. `progress` is called often; it must not block.
    fn pull<'a>(
        &'a self,
        reference: &'a str,
        credential: Option<&'a Credential>,
        progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    ) -> Answer<'a, ()>;

    /// Creates an image with one layer from `entries`, and returns its id.
    fn import<'a>(&'a self, image: &'a ImportSpec, entries: Vec<Entry>) -> Answer<'a, String>;

    /// Removes the images that have all of `labels`, except `keep` (an id) and those in use.
    fn prune<'a>(&'a self, labels: &'a BTreeMap<String, String>, keep: &'a str) -> Answer<'a, ()>;
}

/// The engine's containers.
pub(crate) trait Containers: Send + Sync {
    /// Looks up a container by name or id; None when there is none.
    fn container<'a>(&'a self, name: &'a str) -> Answer<'a, Option<ContainerState>>;

    /// Creates a container without starting it, and returns its full id. Never pulls.
    fn create<'a>(&'a self, spec: &'a ContainerSpec) -> Answer<'a, String>;

    /// Starts a container. If it needs something that the engine cannot provide, this fails and the container remains.
    fn start<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Removes a container, running or not, with its anonymous volumes. Succeeds if it is already gone.
    fn remove<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Resolves when the container is no longer running.
    fn exited<'a>(&'a self, id: &'a str) -> Answer<'a, Exit>;

    /// The last lines of the container's output.
    fn log_tail<'a>(&'a self, id: &'a str, lines: usize) -> Answer<'a, Vec<String>>;

    /// Runs a command in the container to its end. Its output is written to `output` as it arrives. Dropping the future
    /// leaves the command running.
    fn exec<'a>(&'a self, id: &'a str, command: &'a Exec, output: &'a Tail) -> Answer<'a, Option<i64>>;

    /// Whether a file exists at this path, including a symbolic link. The container need not run.
    fn has<'a>(&'a self, id: &'a str, path: &'a str) -> Answer<'a, bool>;

    /// Reads a file (at most 1 MiB); None when it does not exist or is not a regular file. The container need not run.
    fn read<'a>(&'a self, id: &'a str, path: &'a str) -> Answer<'a, Option<Vec<u8>>>;

    /// Writes files and folders into the container; missing parents are created. The container need not run.
    fn put<'a>(&'a self, id: &'a str, entries: Vec<Entry>) -> Answer<'a, ()>;
}

/// What is known about a connected engine.
#[derive(Clone, Debug)]
pub(crate) struct EngineFacts {
    /// Docker or Podman.
    pub(crate) kind: EngineKind,
    /// Its version, as it reports it.
    pub(crate) version: String,
    /// Its socket.
    pub(crate) socket: PathBuf,
    /// How the socket was found, for the user: `DOCKER_HOST`, `docker context desktop`, `default socket`.
    pub(crate) found_by: String,
    /// It runs as a user other than root, so that root in a container is that user.
    pub(crate) rootless: bool,
    /// It maps the users of every container to others of the host (`userns-remap`).
    pub(crate) remapped: bool,
    /// Memory of the machine in bytes; 0 when unknown.
    pub(crate) memory: u64,
    /// CDI devices that it reports.
    pub(crate) cdi_devices: Vec<String>,
    /// It supports CDI devices.
    pub(crate) cdi: bool,
    /// The NVIDIA runtime is registered with it.
    pub(crate) nvidia_runtime: bool,
    /// The NVIDIA runtime runs every container for which no other runtime is named.
    pub(crate) nvidia_by_default: bool,
    /// It labels containers for SELinux.
    pub(crate) selinux: bool,
    /// No process of any container may gain privileges.
    pub(crate) no_new_privileges: bool,
    /// Variables that the user's own tools set in each container: their proxies. They may hold passwords.
    pub(crate) proxies: Vec<(String, String)>,
}

impl EngineFacts {
    /// Name, version and socket, for the user.
    #[must_use]
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} {} ({})",
            self.kind.name(),
            self.version,
            self.socket.display()
        )
    }

    /// Major and minor version; zeros when they cannot be parsed.
    #[must_use]
    pub(crate) fn version_pair(&self) -> (u32, u32) {
        let mut parts = self
            .version
            .split(|c: char| !c.is_ascii_digit())
            .map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

/// Kind of engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineKind {
    /// Docker Engine.
    Docker,
    /// Podman's Docker-compatible service.
    Podman,
}

impl EngineKind {
    /// Its name for the user.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
        }
    }

    /// Its command.
    #[must_use]
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// What is known about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageFacts {
    /// Its id.
    pub(crate) id: String,
    /// `USER`; empty when it is root.
    pub(crate) user: String,
    /// Its environment.
    pub(crate) env: Vec<(String, String)>,
    /// Its entry point.
    pub(crate) entrypoint: Vec<String>,
    /// Its default command.
    pub(crate) command: Vec<String>,
    /// `WORKDIR`; empty when it is `/`.
    pub(crate) workdir: String,
    /// Folders that are volumes of their own in each container (`VOLUME`).
    pub(crate) volumes: Vec<String>,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Progress of a pull.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PullProgress {
    /// Bytes downloaded.
    pub(crate) done: u64,
    /// Total bytes of the layers seen so far; none until the first is known.
    pub(crate) total: Option<u64>,
    /// The current activity, in a few words.
    pub(crate) detail: String,
}

/// The state of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerState {
    /// Full id.
    pub(crate) id: String,
    /// Name without the slash.
    pub(crate) name: String,
    /// The image reference that it was created from.
    pub(crate) image: String,
    /// Whether it is running.
    pub(crate) phase: Phase,
    /// When it was last started, in the engine's format; changes with each start.
    pub(crate) started_at: String,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its user, as configured; empty for root.
    pub(crate) user: String,
    /// Its working directory; empty for `/`.
    pub(crate) workdir: String,
    /// Its first process, as the engine's host numbers it; none while it does not run.
    pub(crate) pid: Option<u32>,
}

/// Phase of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Created, never started.
    #[default]
    Created,
    /// Running.
    Running,
    /// Paused.
    Paused,
    /// It ran and has ended.
    Exited,
    /// In transition, or broken.
    Other,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit code; none when the container is gone and its code unknown.
    pub(crate) code: Option<i64>,
    /// It was killed by the kernel for lack of memory.
    pub(crate) out_of_memory: bool,
    /// The engine's error message, often empty.
    pub(crate) error: String,
}

/// Why a call to an engine failed. The text is the engine's own message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    /// No such image or container.
    #[error("{0}")]
    NotFound(String),
    /// The name, or the object, is in use.
    #[error("{0}")]
    Conflict(String),
    /// The image does not have the command.
    #[error("{0}")]
    CommandMissing(String),
    /// The engine has no init program.
    #[error("{0}")]
    InitMissing(String),
    /// A resource limit cannot be set.
    #[error("{0}")]
    LimitRefused(String),
    /// The engine cannot provide the GPUs.
    #[error("{0}")]
    GpuRefused(String),
    /// A mount failed.
    #[error("{0}")]
    MountRefused(String),
    /// The host's disk is full.
    #[error("{0}")]
    NoSpace(String),
    /// Any other refusal.
    #[error("{0}")]
    Refused(String),
    /// The engine does not answer.
    #[error("{0}")]
    Lost(String),
}
