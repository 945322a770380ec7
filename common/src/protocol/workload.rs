//! What a client asks of the agent, and what the agent tells while it does it.

use serde::{Deserialize, Serialize};

use super::{list::at_most, message::Message};

/// Most volumes, environment variables or GPUs of one message.
pub const MOST_LISTED: usize = 512;

/// A request. One stream each; the agent answers with [`Event`]s, the last of which [is final](Event::is_final).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Find or make the workload, start Jupyter in it, and make it the target of this connection's forwards.
    Start(Box<WorkloadSpec>),
}

/// The workload a user asked for: a container (or process) with Jupyter in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadSpec {
    /// Name of the [profile](super::profile). Names the container and its token.
    pub session: String,
    /// Which engine runs it.
    #[serde(default)]
    pub engine: EngineChoice,
    /// Name or id of a container that already runs, used as it is; the fields from `image` to `user` are then unset.
    pub existing_container: Option<String>,
    /// Image reference. None: the session's existing container, or no container at all.
    pub image: Option<String>,
    /// When to pull the image.
    #[serde(default)]
    pub pull: PullPolicy,
    /// Which GPUs the container gets. None: all there are, without complaint when there are none asked for.
    #[serde(default)]
    pub gpus: GpuAsk,
    /// Folders of the GPU host seen in the container, at most [`MOST_LISTED`].
    #[serde(default, deserialize_with = "at_most::<MOST_LISTED, _, _>")]
    pub volumes: Vec<Volume>,
    /// Environment variables of the container, in the order given, at most [`MOST_LISTED`].
    #[serde(default, deserialize_with = "at_most::<MOST_LISTED, _, _>")]
    pub env: Vec<(String, String)>,
    /// Working directory in the container, also Jupyter's root folder.
    pub workdir: Option<String>,
    /// Size of /dev/shm in bytes. None: half of the host's memory, 16 GiB at most.
    pub shm_size: Option<u64>,
    /// User in the container. None: the caller, where the image allows it.
    pub user: Option<UserSpec>,
    /// Entry point in place of the image's, as in docker-run(1); empty for none. For a process the `jupyter` to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<String>,
    /// Which Jupyter to start.
    #[serde(default)]
    pub jupyter: JupyterKind,
}

/// Which engine runs the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineChoice {
    /// The first that works: Docker, Podman, then a process. A process at once when no image or container is named.
    #[default]
    Auto,
    /// Docker Engine, through its API socket.
    Docker,
    /// Podman, through its Docker-compatible socket.
    Podman,
    /// No container: Jupyter as a process of the user on the host.
    Process,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// When the engine does not have it.
    #[default]
    Missing,
    /// Before every creation of a container.
    Always,
    /// Not at all; missing is an error.
    Never,
}

/// Which GPUs were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuAsk {
    /// Nothing was said: all there are, and a warning when there are none.
    #[default]
    Default,
    /// `--gpus all`: all there are, and a warning when there are none.
    All,
    /// `--gpus none`.
    None,
    /// `--gpus N`: that many (at least 1), or an error.
    Count(u32),
    /// `--gpus ID,ID`: these, by index or UUID, at most [`MOST_LISTED`], or an error.
    Ids(#[serde(deserialize_with = "at_most::<MOST_LISTED, _, _>")] Vec<String>),
}

/// Most options of one volume.
pub const MOST_OPTIONS: usize = 16;

/// One `-v SRC:DST[:OPTION,…]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Path on the GPU host, absolute or starting with `~/` (the caller's home there), or the name of a volume of the
    /// engine (no slash).
    pub source: String,
    /// Absolute path in the container.
    pub destination: String,
    /// Mounted read-only.
    #[serde(default)]
    pub read_only: bool,
    /// The options besides `ro` and `rw`, as the engine's own command line has them ([`super::volume`]); at most
    /// [`MOST_OPTIONS`].
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_most::<MOST_OPTIONS, _, _>"
    )]
    pub options: Vec<String>,
}

/// User and group in the container, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    /// User id.
    pub uid: u32,
    /// Group id. None: the same number as the user's.
    pub gid: Option<u32>,
}

/// Which Jupyter is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JupyterKind {
    /// JupyterLab.
    #[default]
    Lab,
    /// Jupyter Notebook 7.
    Notebook,
    /// None; the container runs what its image runs.
    None,
}

/// What the agent tells while it works on a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A step has begun; it ends when the next begins or the request ends.
    Step(String),
    /// How far the step has come.
    Progress(Progress),
    /// Something the user should know, said once and calmly.
    Note(String),
    /// Something the user would not expect, said loudly.
    Warning(String),
    /// Final: the workload runs.
    Ready(Box<Ready>),
    /// Final: it does not.
    Failed(Failure),
}

impl Event {
    /// Whether no event follows this one.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Ready(_) | Self::Failed(_))
    }
}

/// How far a step has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Done so far, in `unit`s.
    pub done: u64,
    /// All there is, where it is known.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Unit,
    /// What is being worked on right now; may be empty.
    pub detail: String,
}

/// What a [`Progress`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things (layers, packages).
    #[default]
    #[serde(other)]
    Items,
}

/// The workload as it now runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ready {
    /// The engine, for the user: name, version and where it was found.
    pub engine: String,
    /// The container; none for a process.
    pub container: Option<ContainerInfo>,
    /// Jupyter; none when none was asked for.
    pub jupyter: Option<JupyterInfo>,
    /// GPUs seen inside, as `nvidia-smi -L` lists them (one a line), at most [`MOST_LISTED`]; empty when none were
    /// asked for or none are there.
    #[serde(deserialize_with = "at_most::<MOST_LISTED, _, _>")]
    pub gpus: Vec<String>,
}

/// A container, for the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerInfo {
    /// Full id.
    pub id: String,
    /// Name without the leading slash.
    pub name: String,
    /// Image reference it was made from.
    pub image: String,
    /// How it came to run.
    pub origin: Origin,
}

/// How a workload came to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Made for this request.
    Created,
    /// It was there, stopped, and was started.
    Started,
    /// It was running.
    #[default]
    #[serde(other)]
    Found,
}

/// How to reach Jupyter through a forward to the workload.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JupyterInfo {
    /// TCP port on the workload's loopback; 0 where it listens on a Unix socket that the agent knows, which is then
    /// reached by forwarding to port 0.
    pub port: u16,
    /// The token. A secret.
    #[serde(default)]
    pub token: String,
    /// Path of the page to open, with its leading slash: `/lab`, `/tree`.
    #[serde(default)]
    pub path: String,
    /// Whether it was running already (its kernels are still there).
    #[serde(default)]
    pub was_running: bool,
    /// A name below `localhost` (RFC 6761, section 6.3) under which it answers too. No other session has it, so a browser
    /// that is sent there keeps its cookies apart. None where it refuses that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl Message for WorkloadSpec {}
impl Message for Event {}
impl Message for Failure {}

impl std::fmt::Debug for JupyterInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JupyterInfo")
            .field("port", &self.port)
            .field("path", &self.path)
            .field("was_running", &self.was_running)
            .finish_non_exhaustive()
    }
}

/// Why a request failed, in words for the user. The host is added by the client, which knows what the user calls it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// What kind it is, for programs.
    pub kind: FailureKind,
    /// What failed: `cannot create the container`.
    pub what: String,
    /// Why, as far as it is known; may be the engine's own words.
    pub why: String,
    /// What the user can do about it.
    pub hint: String,
}

/// Kinds of [`Failure`] a program can tell apart. The names are those of the `--json` output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No container engine on the host.
    EngineMissing,
    /// The engine's socket may not be opened by this user.
    EnginePermission,
    /// The engine is installed and does not answer.
    EngineStopped,
    /// The image is not there and cannot be pulled.
    ImageUnavailable,
    /// The container's command is not in its image (no Jupyter in it).
    CommandMissing,
    /// The container's name belongs to a container that jq did not make for this session.
    NameTaken,
    /// The session's container was made with other options.
    SpecDiffers,
    /// A container named by the user does not exist or does not run.
    ContainerUnavailable,
    /// A volume's source does not exist or may not be used.
    VolumeUnavailable,
    /// The GPUs asked for cannot be had.
    GpuUnavailable,
    /// The container or Jupyter ended, or did not answer in time.
    StartFailed,
    /// The host lacks something: space, Python, a writable folder.
    HostUnfit,
    /// The host is another machine than the one that the client's session is on.
    OtherMachine,
    /// The request makes no sense.
    BadRequest,
    /// Anything else.
    #[default]
    #[serde(other)]
    Internal,
}
