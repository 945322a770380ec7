//! The command line as clap parses it. `settings` gives the flags their meaning.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jq_common::protocol::{
    version::BUILD,
    workload::{EngineChoice, JupyterKind, PullPolicy},
};

/// Forward Jupyter and any other port of a container on a GPU host to this machine.
///
/// One command logs in over ssh, starts the container with JupyterLab, and forwards its ports. Connections survive
/// suspend, network changes and outages.
#[derive(Debug, Parser)]
#[command(name = "jq-client", version = BUILD, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connect to a host, start its container with Jupyter, and forward its ports until Ctrl-C.
    Connect(Box<ConnectArgs>),
    /// Show the sessions of this machine: state, path, round-trip time, rates, ports, container.
    Status(StatusArgs),
}

/// Flags of `connect`.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// Host: an ssh destination (alias, `[user@]host` or `ssh://user@host:port`), or `local` for this machine.
    pub target: String,

    /// Image of the container. Optional if the session's container exists already.
    #[arg(short, long, value_name = "IMAGE", help_heading = "Container")]
    pub image: Option<String>,

    /// Use this running container as it is.
    #[arg(short, long, value_name = "NAME", help_heading = "Container",
          conflicts_with_all = ["image", "gpus", "volume", "env", "workdir", "shm_size", "user", "entrypoint", "pull"])]
    pub container: Option<String>,

    /// Container engine; `process` runs Jupyter without a container.
    #[arg(long, value_enum, default_value_t = Engine::Auto, help_heading = "Container")]
    pub engine: Engine,

    /// GPUs of the container: all, none, a number, or a list of indices or UUIDs. Default: all.
    #[arg(long, value_name = "all|none|N|ID,ID", help_heading = "Container")]
    pub gpus: Option<String>,

    /// Mount a folder of the host into the container; `~/` is your home on the host. OPTIONS are those of `docker run
    /// -v`: ro, z, Z, cached, rslave, nocopy and so on. Repeatable.
    #[arg(short, long, value_name = "SRC:DST[:OPTIONS]", help_heading = "Container")]
    pub volume: Vec<String>,

    /// Set an environment variable in the container; without a value, take it from this machine. Repeatable.
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Container")]
    pub env: Vec<String>,

    /// Working directory in the container. Default: the first volume, else the image's own.
    #[arg(short, long, value_name = "DIR", help_heading = "Container")]
    pub workdir: Option<String>,

    /// Size of /dev/shm, for example 8g. Default: half of the host's memory, at most 16g.
    #[arg(long, value_name = "SIZE", help_heading = "Container")]
    pub shm_size: Option<String>,

    /// User in the container. Default: your uid on the host, if the image allows it.
    #[arg(long, value_name = "UID[:GID]", help_heading = "Container")]
    pub user: Option<String>,

    /// Program that starts the container's command, instead of the image's entry point; "" for none. With `--engine
    /// process`: the `jupyter` to start.
    #[arg(long, value_name = "PROGRAM", help_heading = "Container")]
    pub entrypoint: Option<String>,

    /// When to pull the image. Default: missing.
    #[arg(long, value_enum, value_name = "WHEN", help_heading = "Container")]
    pub pull: Option<Pull>,

    /// Name of the session and its container. Default: the host's name.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Jupyter server to start.
    #[arg(long, value_enum, default_value_t = Jupyter::Lab, help_heading = "Jupyter")]
    pub jupyter: Jupyter,

    /// Local port of Jupyter. Default: the port of the last run, else 8888.
    #[arg(long, value_name = "PORT", help_heading = "Jupyter", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,

    /// Do not open the browser.
    #[arg(long, help_heading = "Jupyter")]
    pub no_browser: bool,

    /// Forward a local port: PORT or LPORT:PORT to the container, LPORT:HOST:PORT to an address that the host can
    /// reach. Repeatable.
    #[arg(short = 'L', value_name = "SPEC", help_heading = "Ports")]
    pub forward: Vec<String>,

    /// Configuration file for ssh, as `ssh -F`.
    #[arg(short = 'F', value_name = "FILE", help_heading = "SSH")]
    pub ssh_config: Option<PathBuf>,

    /// Jump hosts for ssh, as `ssh -J`.
    #[arg(short = 'J', value_name = "HOST", help_heading = "SSH")]
    pub jump: Option<String>,

    /// Option for ssh, as `ssh -o`. Repeatable.
    #[arg(short = 'o', value_name = "KEY=VALUE", help_heading = "SSH")]
    pub ssh_option: Vec<String>,

    /// Network path to the host.
    #[arg(long, value_enum, default_value_t = Path::Auto, help_heading = "Connection")]
    pub path: Path,

    /// Disable compression. By default large responses are compressed when the network is the bottleneck.
    #[arg(long, help_heading = "Connection")]
    pub no_compression: bool,

    /// How long the agent keeps running on the host without a client, for example 90s, 30m, 24h.
    #[arg(long, value_name = "TIME", default_value = "24h", help_heading = "Connection")]
    pub linger: String,

    /// Folder with agent binaries (jq-agent-ARCH) that take precedence over the bundled ones.
    #[arg(long, env = "JQ_AGENT_DIR", value_name = "DIR", hide = true)]
    pub agent_dir: Option<PathBuf>,

    /// Print events as JSON lines on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show this session (or the session of this host) in detail. Default: list all sessions.
    pub name: Option<String>,

    /// Print sessions as JSON lines on standard output.
    #[arg(long)]
    pub json: bool,
}

/// `--engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// The first engine that works: Docker, Podman, then no container.
    Auto,
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// No container: a process on the host.
    Process,
}

impl From<Engine> for EngineChoice {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Auto => Self::Auto,
            Engine::Docker => Self::Docker,
            Engine::Podman => Self::Podman,
            Engine::Process => Self::Process,
        }
    }
}

/// `--pull`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pull {
    /// Only if the host does not have it.
    Missing,
    /// Before a container is created.
    Always,
    /// Never.
    Never,
}

impl From<Pull> for PullPolicy {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Missing => Self::Missing,
            Pull::Always => Self::Always,
            Pull::Never => Self::Never,
        }
    }
}

/// `--jupyter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Jupyter {
    /// JupyterLab.
    Lab,
    /// Jupyter Notebook.
    Notebook,
    /// No Jupyter: the container runs its own command.
    None,
}

impl From<Jupyter> for JupyterKind {
    fn from(jupyter: Jupyter) -> Self {
        match jupyter {
            Jupyter::Lab => Self::Lab,
            Jupyter::Notebook => Self::Notebook,
            Jupyter::None => Self::None,
        }
    }
}

/// `--path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Path {
    /// The best path that works: direct UDP, UDP through relays on the jump hosts, else the ssh connection.
    Auto,
    /// Only direct UDP.
    Direct,
    /// Only UDP through relays on the jump hosts.
    Relay,
    /// Only the ssh connection: slower, but needs no UDP.
    Ssh,
}
