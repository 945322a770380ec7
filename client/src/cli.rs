//! The command line: types for clap and nothing else. What they mean is in `settings`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Jupyter, and any other port, in a container on a GPU host.
///
/// One command logs in over ssh, starts the container and JupyterLab in it, and brings its ports here.
#[derive(Debug, Parser)]
#[command(name = "jq-client", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connect to a host, start the container and Jupyter in it, and bring its ports here until Ctrl-C.
    Connect(Box<ConnectArgs>),
    /// Show the sessions that run on this machine: state, path, round-trip time, rates, ports, container.
    Status(StatusArgs),
}

/// Flags of `connect`.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// Host to connect to: an ssh destination (alias, `[user@]host`, `ssh://user@host:port`), or `local` for this machine.
    pub target: String,

    /// Image of the container. Not needed when the session's container is there already.
    #[arg(short, long, value_name = "IMAGE", help_heading = "Container")]
    pub image: Option<String>,

    /// Use this container, which runs already, as it is.
    #[arg(short, long, value_name = "NAME", help_heading = "Container",
          conflicts_with_all = ["image", "gpus", "volume", "env", "workdir", "shm_size", "user", "pull"])]
    pub container: Option<String>,

    /// What runs the container; `process` runs Jupyter without one.
    #[arg(long, value_enum, default_value_t = Engine::Auto, help_heading = "Container")]
    pub engine: Engine,

    /// GPUs: all, none, a number, or a list of indices or UUIDs. Default: all there are.
    #[arg(long, value_name = "all|none|N|ID,ID", help_heading = "Container")]
    pub gpus: Option<String>,

    /// A folder of the host in the container; `~/` is your home on the host. May be repeated.
    #[arg(short, long, value_name = "SRC:DST[:ro]", help_heading = "Container")]
    pub volume: Vec<String>,

    /// An environment variable of the container; without a value, this machine's. May be repeated.
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Container")]
    pub env: Vec<String>,

    /// Working directory in the container. Default: the first volume's, else the image's.
    #[arg(short, long, value_name = "DIR", help_heading = "Container")]
    pub workdir: Option<String>,

    /// Size of /dev/shm, such as 8g. Default: half of the host's memory, 16g at most.
    #[arg(long, value_name = "SIZE", help_heading = "Container")]
    pub shm_size: Option<String>,

    /// User in the container. Default: you, where the image allows it.
    #[arg(long, value_name = "UID[:GID]", help_heading = "Container")]
    pub user: Option<String>,

    /// When to pull the image.
    #[arg(long, value_enum, value_name = "WHEN", help_heading = "Container")]
    pub pull: Option<Pull>,

    /// Name of the session, and of its container. Default: the target's.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Which Jupyter to start.
    #[arg(long, value_enum, default_value_t = Jupyter::Lab, help_heading = "Jupyter")]
    pub jupyter: Jupyter,

    /// Local port of Jupyter. Default: the same as last time, else 8888.
    #[arg(long, value_name = "PORT", help_heading = "Jupyter", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,

    /// Do not open the browser.
    #[arg(long, help_heading = "Jupyter")]
    pub no_browser: bool,

    /// Bring a port here: PORT or LPORT:PORT of the container, LPORT:HOST:PORT of what the host reaches. May be
    /// repeated.
    #[arg(short = 'L', value_name = "SPEC", help_heading = "Ports")]
    pub forward: Vec<String>,

    /// Configuration file for ssh.
    #[arg(short = 'F', value_name = "FILE", help_heading = "SSH")]
    pub ssh_config: Option<PathBuf>,

    /// Jump hosts for ssh.
    #[arg(short = 'J', value_name = "HOST", help_heading = "SSH")]
    pub jump: Option<String>,

    /// Option for ssh. May be repeated.
    #[arg(short = 'o', value_name = "KEY=VALUE", help_heading = "SSH")]
    pub ssh_option: Vec<String>,

    /// How packets go.
    #[arg(long, value_enum, default_value_t = Path::Auto, help_heading = "Connection")]
    pub path: Path,

    /// Compress nothing. Else large answers are, where the network is what holds them up.
    #[arg(long, help_heading = "Connection")]
    pub no_compression: bool,

    /// How long the agent stays on the host when nobody is connected, such as 90s, 30m, 24h.
    #[arg(long, value_name = "TIME", default_value = "24h", help_heading = "Connection")]
    pub linger: String,

    /// Folder with agents (jq-agent-ARCH) to use instead of the bundled ones.
    #[arg(long, env = "JQ_AGENT_DIR", value_name = "DIR", hide = true)]
    pub agent_dir: Option<PathBuf>,

    /// Print events as JSON, one a line, on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Session, or its target, to show in detail. Default: all, in short.
    pub name: Option<String>,

    /// Print sessions as JSON, one a line, on standard output.
    #[arg(long)]
    pub json: bool,
}

/// `--engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// The first that works.
    Auto,
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// No container.
    Process,
}

/// `--pull`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pull {
    /// When the host does not have it.
    Missing,
    /// Before every new container.
    Always,
    /// Not at all.
    Never,
}

/// `--jupyter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Jupyter {
    /// JupyterLab.
    Lab,
    /// Jupyter Notebook.
    Notebook,
    /// None: the container runs what its image runs.
    None,
}

/// `--path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Path {
    /// The best that works: straight to the host, through relays on the jump hosts, else in the ssh connection.
    Auto,
    /// Straight to the host by UDP, and no other way.
    Direct,
    /// Through relays on the jump hosts, and no other way.
    Relay,
    /// In the ssh connection, where UDP is not wanted: slower, and UDP is not tried.
    Ssh,
}
