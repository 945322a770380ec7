//! What an engine is asked to create.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;

/// An image to be created from files.
#[derive(Clone, Debug)]
pub(crate) struct ImportSpec {
    /// Repository, without a tag.
    pub(crate) repository: String,
    /// Tag.
    pub(crate) tag: String,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// A file or folder to be put into an image or container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Absolute path.
    pub(crate) path: String,
    /// Its content; none for a folder.
    pub(crate) content: Option<Bytes>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
}

/// A container to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerSpec {
    /// Its name.
    pub(crate) name: String,
    /// Image reference or id, present in the engine.
    pub(crate) image: String,
    /// Entry point, replacing the image's.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Command, replacing the image's.
    pub(crate) command: Option<Vec<String>>,
    /// `uid:gid`, replacing the image's user.
    pub(crate) user: Option<String>,
    /// Environment, in addition to the image's.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory, replacing the image's.
    pub(crate) workdir: Option<String>,
    /// Host name.
    pub(crate) hostname: Option<String>,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Mounted folders and volumes.
    pub(crate) mounts: Vec<Mount>,
    /// Size of /dev/shm in bytes.
    pub(crate) shm_size: Option<u64>,
    /// Resource limits.
    pub(crate) limits: Vec<Limit>,
    /// Runs a small init as process 1, which reaps zombies.
    pub(crate) init: bool,
    /// GPUs.
    pub(crate) gpus: Option<GpuRequest>,
    /// Shares the network of this container (full id); none: the engine's default network.
    pub(crate) network_of: Option<String>,
    /// A network helper: read-only, without capabilities or new privileges, removed when it ends.
    pub(crate) confined: bool,
    /// Uses the host's user ids even where the engine remaps them.
    pub(crate) host_users: bool,
    /// Absolute paths in the container that are hidden behind an empty folder.
    pub(crate) masked: Vec<String>,
    /// No process may gain privileges, by a set-user-id program for example.
    pub(crate) no_new_privileges: bool,
}

/// A mounted folder or volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Its source.
    pub(crate) source: MountSource,
    /// Absolute path in the container.
    pub(crate) destination: String,
    /// Mounted read-only.
    pub(crate) read_only: bool,
    /// Further options, as the engine's own command line has them: `z`, `cached`, `rslave`.
    pub(crate) options: Vec<String>,
}

impl Mount {
    /// As the engine's command line has it: `SOURCE:DESTINATION[:OPTION,…]`, the options in order.
    pub(crate) fn as_option(&self) -> String {
        let (MountSource::Host(source) | MountSource::Volume(source)) = &self.source;
        let mut options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        options.sort_unstable();
        if self.read_only {
            options.insert(0, "ro");
        }
        let mode = if options.is_empty() { "" } else { ":" };
        format!("{source}:{}{mode}{}", self.destination, options.join(","))
    }

    /// Whether `path` in the container is inside this mount.
    pub(crate) fn covers(&self, path: &str) -> bool {
        Path::new(path).starts_with(&self.destination)
    }
}

/// Source of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountSource {
    /// An absolute path of the host. It must exist; the engine does not create it.
    Host(String),
    /// A volume of the engine, created if it is missing.
    Volume(String),
}

/// A resource limit; -1 means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The engine's name for it, such as `nofile`.
    pub(crate) name: &'static str,
    /// Soft limit.
    pub(crate) soft: i64,
    /// Hard limit.
    pub(crate) hard: i64,
}

/// A request for GPUs in one of the forms that engines understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GpuRequest {
    /// NVIDIA's hook or runtime, with these UUIDs; all GPUs when empty.
    Nvidia(Vec<String>),
    /// CDI devices, by full name.
    Cdi(Vec<String>),
    /// Device nodes of the host, and the groups that may open them.
    Nodes {
        /// Paths.
        paths: Vec<String>,
        /// Group ids.
        groups: Vec<u32>,
    },
}

/// A command to run in a container. Its input may be a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Exec {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Environment, in addition to the container's.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory, replacing the container's.
    pub(crate) workdir: Option<String>,
    /// Written to its standard input, which then stays open; none: it has none.
    pub(crate) input: Option<Bytes>,
}
