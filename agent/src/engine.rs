//! Who runs containers, in our own words.
//!
//! The traits say what the workload needs and what each call promises; `engine/docker` is the only place that speaks an
//! engine's API. `engine/process` is for hosts without any.

mod archive;
pub(crate) mod docker;
pub(crate) mod socket;
mod spec;

use std::{collections::BTreeMap, path::PathBuf};

use futures_util::future::BoxFuture;

use crate::log_tail::Tail;

pub(crate) use self::spec::{ContainerSpec, Entry, Exec, GpuRequest, ImportSpec, Limit, Mount, MountSource};

/// What a call to an engine comes to.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

/// Runs containers from images.
pub(crate) trait ContainerEngine: Images + Containers {
    /// What was learnt when it was connected to.
    fn facts(&self) -> &EngineFacts;
}

/// The engine's images.
pub(crate) trait Images: Send + Sync {
    /// The image of this reference; none when the engine does not have it.
    fn image<'a>(&'a self, reference: &'a str) -> Answer<'a, Option<ImageFacts>>;

    /// Pulls the image with the caller's own registry credentials. An error inside the engine's stream is an error.
    /// `progress` is called often; it must not block.
    fn pull<'a>(
        &'a self,
        reference: &'a str,
        progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    ) -> Answer<'a, ()>;

    /// Makes an image of one layer out of `entries`, and returns its id.
    fn import<'a>(&'a self, image: &'a ImportSpec, entries: Vec<Entry>) -> Answer<'a, String>;

    /// Removes the images that carry all of `labels`, except `keep` (an id) and those in use.
    fn prune<'a>(&'a self, labels: &'a BTreeMap<String, String>, keep: &'a str) -> Answer<'a, ()>;
}

/// The engine's containers.
pub(crate) trait Containers: Send + Sync {
    /// The container of this name or id; none when there is none.
    fn container<'a>(&'a self, name: &'a str) -> Answer<'a, Option<ContainerState>>;

    /// Makes a container, without starting it, and returns its full id. Never pulls.
    fn create<'a>(&'a self, spec: &'a ContainerSpec) -> Answer<'a, String>;

    /// Starts it. A container that was asked for something the engine cannot give fails here, and stays.
    fn start<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Removes it, running or not, with its anonymous volumes. One that is gone already is no error.
    fn remove<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Resolves once it runs no longer.
    fn exited<'a>(&'a self, id: &'a str) -> Answer<'a, Exit>;

    /// The last lines it has written.
    fn log_tail<'a>(&'a self, id: &'a str, lines: usize) -> Answer<'a, Vec<String>>;

    /// Runs a command in it until that ends. What it writes goes to `output` as it comes. Dropping the future leaves
    /// the command running.
    fn exec<'a>(&'a self, id: &'a str, command: &'a Exec, output: &'a Tail) -> Answer<'a, Option<i64>>;

    /// Whether something is at this path, a link included. It need not run.
    fn has<'a>(&'a self, id: &'a str, path: &'a str) -> Answer<'a, bool>;

    /// A file's bytes (at most 1 MiB); none when it is not there or is not a plain file. It need not run.
    fn read<'a>(&'a self, id: &'a str, path: &'a str) -> Answer<'a, Option<Vec<u8>>>;

    /// Puts files and folders into it; folders on the way are made. It need not run.
    fn put<'a>(&'a self, id: &'a str, entries: Vec<Entry>) -> Answer<'a, ()>;
}

/// What is known about a connected engine.
#[derive(Clone, Debug)]
pub(crate) struct EngineFacts {
    /// Docker or Podman.
    pub(crate) kind: EngineKind,
    /// Its version, as it says.
    pub(crate) version: String,
    /// Where it listens.
    pub(crate) socket: PathBuf,
    /// How that place was found, for the user: `DOCKER_HOST`, `docker context desktop`, `default socket`.
    pub(crate) found_by: String,
    /// It runs as a user who is not root, so that root in a container is that user.
    pub(crate) rootless: bool,
    /// It maps every container's users away from the host's (`userns-remap`).
    pub(crate) remapped: bool,
    /// Memory of the machine in bytes; 0 when it does not say.
    pub(crate) memory: u64,
    /// CDI devices that it says it has found.
    pub(crate) cdi_devices: Vec<String>,
    /// It takes CDI devices.
    pub(crate) cdi: bool,
    /// The NVIDIA runtime is registered with it.
    pub(crate) nvidia_runtime: bool,
}

impl EngineFacts {
    /// Name, version and place, for the user.
    #[must_use]
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} {} ({})",
            self.kind.name(),
            self.version,
            self.socket.display()
        )
    }

    /// Major and minor version; zeros when they cannot be read.
    #[must_use]
    pub(crate) fn version_pair(&self) -> (u32, u32) {
        let mut parts = self
            .version
            .split(|c: char| !c.is_ascii_digit())
            .map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

/// Whose engine it is.
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
}

/// What an image says about itself.
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
    /// Its own command.
    pub(crate) command: Vec<String>,
    /// `WORKDIR`; empty when it is `/`.
    pub(crate) workdir: String,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// How far a pull has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PullProgress {
    /// Bytes fetched.
    pub(crate) done: u64,
    /// Bytes of the layers seen so far; none until the first is known.
    pub(crate) total: Option<u64>,
    /// What is going on, in few words.
    pub(crate) detail: String,
}

/// A container as the engine has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerState {
    /// Full id.
    pub(crate) id: String,
    /// Name without the slash.
    pub(crate) name: String,
    /// The image reference it was made from.
    pub(crate) image: String,
    /// What it is doing.
    pub(crate) phase: Phase,
    /// When it was last started, in the engine's words; changes with each start.
    pub(crate) started_at: String,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its user, as configured; empty for root.
    pub(crate) user: String,
    /// Its working directory; empty for `/`.
    pub(crate) workdir: String,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Made, never started.
    #[default]
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// It has run and has ended.
    Exited,
    /// Between two of these, or broken.
    Other,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit code; none when the container is gone and took it along.
    pub(crate) code: Option<i64>,
    /// The kernel killed it for want of memory.
    pub(crate) out_of_memory: bool,
    /// The engine's own words, often empty.
    pub(crate) error: String,
}

/// Why a call to an engine failed. The text is the engine's own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    /// No such image or container.
    #[error("{0}")]
    NotFound(String),
    /// The name is in use, or the thing is.
    #[error("{0}")]
    Conflict(String),
    /// The command is not in the image.
    #[error("{0}")]
    CommandMissing(String),
    /// The engine has no init to give.
    #[error("{0}")]
    InitMissing(String),
    /// A resource limit may not be set.
    #[error("{0}")]
    LimitRefused(String),
    /// The GPUs cannot be given.
    #[error("{0}")]
    GpuRefused(String),
    /// A folder cannot be mounted.
    #[error("{0}")]
    MountRefused(String),
    /// No space is left on the host.
    #[error("{0}")]
    NoSpace(String),
    /// Anything else it said.
    #[error("{0}")]
    Refused(String),
    /// It does not answer.
    #[error("{0}")]
    Lost(String),
}
