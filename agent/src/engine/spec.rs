//! What an engine is asked for.

use std::collections::BTreeMap;

use bytes::Bytes;

/// An image to be made from files.
#[derive(Clone, Debug)]
pub struct ImportSpec {
    /// Repository, without a tag.
    pub repository: String,
    /// Tag.
    pub tag: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A file or folder to be put into an image or container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Absolute path.
    pub path: String,
    /// What it holds; none for a folder.
    pub content: Option<Bytes>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A container to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name.
    pub name: String,
    /// Image reference or id, present in the engine.
    pub image: String,
    /// Entry point in place of the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Command in place of the image's.
    pub command: Option<Vec<String>>,
    /// `uid:gid` in place of the image's user.
    pub user: Option<String>,
    /// Environment on top of the image's.
    pub env: Vec<(String, String)>,
    /// Working directory in place of the image's.
    pub workdir: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Folders and volumes seen in it.
    pub mounts: Vec<Mount>,
    /// Bytes of /dev/shm.
    pub shm_size: Option<u64>,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// A small init as process 1, which reaps.
    pub init: bool,
    /// GPUs.
    pub gpus: Option<GpuRequest>,
    /// Shares this container's network (full id); none: the engine's default network.
    pub network_of: Option<String>,
    /// A helper of ours: read-only, no capabilities, no new privileges, removed when it ends.
    pub confined: bool,
    /// Users are the host's even where the engine maps them.
    pub host_users: bool,
}

/// A folder or volume seen in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it comes from.
    pub source: MountSource,
    /// Absolute path in the container.
    pub destination: String,
    /// Not writable there.
    pub read_only: bool,
}

/// Where a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// An absolute path of the host. It must exist; the engine never makes it.
    Host(String),
    /// A volume of the engine, made when it is missing.
    Volume(String),
}

/// A resource limit, soft and hard alike; -1 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The engine's name of it: `nofile`.
    pub name: &'static str,
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// GPUs in the way that an engine understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuRequest {
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
pub struct Exec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment on top of the container's.
    pub env: Vec<(String, String)>,
    /// Working directory in place of the container's.
    pub workdir: Option<String>,
}
