//! What an engine is asked for.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;

/// An image to be made from files.
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
    /// What it holds; none for a folder.
    pub(crate) content: Option<Bytes>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
}

/// A container to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerSpec {
    /// Its name.
    pub(crate) name: String,
    /// Image reference or id, present in the engine.
    pub(crate) image: String,
    /// Entry point in place of the image's.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Command in place of the image's.
    pub(crate) command: Option<Vec<String>>,
    /// `uid:gid` in place of the image's user.
    pub(crate) user: Option<String>,
    /// Environment on top of the image's.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory in place of the image's.
    pub(crate) workdir: Option<String>,
    /// Host name.
    pub(crate) hostname: Option<String>,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Folders and volumes seen in it.
    pub(crate) mounts: Vec<Mount>,
    /// Bytes of /dev/shm.
    pub(crate) shm_size: Option<u64>,
    /// Resource limits.
    pub(crate) limits: Vec<Limit>,
    /// A small init as process 1, which reaps.
    pub(crate) init: bool,
    /// GPUs.
    pub(crate) gpus: Option<GpuRequest>,
    /// Shares this container's network (full id); none: the engine's default network.
    pub(crate) network_of: Option<String>,
    /// A helper of ours: read-only, no capabilities, no new privileges, removed when it ends.
    pub(crate) confined: bool,
    /// Users are the host's even where the engine maps them.
    pub(crate) host_users: bool,
}

/// A folder or volume seen in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it comes from.
    pub(crate) source: MountSource,
    /// Absolute path in the container.
    pub(crate) destination: String,
    /// Not writable there.
    pub(crate) read_only: bool,
}

impl Mount {
    /// Whether `path` in the container lies in this mount.
    pub(crate) fn covers(&self, path: &str) -> bool {
        Path::new(path).starts_with(&self.destination)
    }
}

/// Where a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountSource {
    /// An absolute path of the host. It must exist; the engine never makes it.
    Host(String),
    /// A volume of the engine, made when it is missing.
    Volume(String),
}

/// A resource limit, soft and hard alike; -1 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The engine's name of it: `nofile`.
    pub(crate) name: &'static str,
    /// Soft limit.
    pub(crate) soft: i64,
    /// Hard limit.
    pub(crate) hard: i64,
}

/// GPUs in the way that an engine understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GpuRequest {
    /// NVIDIA's hook or runtime: these UUIDs; all when empty.
    Nvidia(Vec<String>),
    /// These CDI devices, by their full names.
    Cdi(Vec<String>),
    /// Device nodes of the host, and the groups that may open them.
    Nodes {
        /// Paths.
        paths: Vec<String>,
        /// Group ids.
        groups: Vec<u32>,
    },
}

/// A command to be run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exec {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Environment on top of the container's.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory in place of the container's.
    pub(crate) workdir: Option<String>,
}
