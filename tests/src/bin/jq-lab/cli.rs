//! The command line.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jq_tests::lab::{Conditions, Gpus, HostName, Loss, Topology};

/// Real hosts on one machine: laptop, gateway and GPU host, with links, sshd and dockerd.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    /// Which lab, where several are up (its four digits).
    #[arg(long, global = true)]
    pub(crate) lab: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring a lab up and leave it running.
    Up(UpArgs),
    /// Hold a lab up until asked to bring it down.
    #[command(hide = true)]
    Hold(UpArgs),
    /// Bring a lab down.
    Down {
        /// All of them, and whatever killed and failed ones left behind, logs included.
        #[arg(long)]
        all: bool,
    },
    /// Show the labs that are up, their hosts and links.
    Status,
    /// Run a command on a host, as its user.
    Run {
        /// laptop, gateway or gpu.
        host: HostName,
        /// As root instead, in the host's network.
        #[arg(long)]
        root: bool,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Open a shell on a host, as its user.
    Shell {
        /// laptop, gateway or gpu.
        host: HostName,
        /// As root instead, in the host's network.
        #[arg(long)]
        root: bool,
    },
    /// Run the docker command line against the GPU host's engine, as root.
    Docker {
        /// Its arguments.
        #[arg(last = true, required = true)]
        args: Vec<OsString>,
    },
    /// Change a link; what is not named stays as it is.
    Link(LinkArgs),
    /// Start or stop a host's sshd; stopping ends its sessions too.
    Sshd {
        /// gateway or gpu.
        host: HostName,
        /// What to do.
        run: Run,
    },
    /// Start or stop the GPU host's dockerd.
    Engine {
        /// What to do.
        run: Run,
    },
    /// Build the images that the cache lacks.
    Images,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Run {
    Start,
    Stop,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// gateway (laptop - gateway - gpu), direct (laptop - gpu) or two-gateways (laptop - gw1 - gw2 - gpu).
    #[arg(long, default_value = "gateway")]
    pub(crate) topology: Topology,
    /// Leave dockerd out.
    #[arg(long)]
    pub(crate) no_docker: bool,
    /// GPUs that the GPU host seems to have: N, N:broken-hook, N:no-hook.
    #[arg(long, default_value = "0")]
    pub(crate) gpus: Gpus,
    /// What settles the links' dice.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) conditions: ConditionArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    /// The link between gateway and GPU host instead of the laptop's.
    #[arg(long)]
    pub(crate) near: bool,
    /// Only the direction that leaves this host.
    #[arg(long)]
    pub(crate) from: Option<HostName>,
    #[command(flatten)]
    pub(crate) conditions: ConditionArgs,
}

/// Conditions to change. Percentages are of packets.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConditionArgs {
    /// Round-trip time in milliseconds, half of it each way.
    #[arg(long)]
    rtt_ms: Option<f64>,
    /// Milliseconds added to or taken from each way.
    #[arg(long)]
    jitter_ms: Option<f64>,
    /// Per cent lost.
    #[arg(long)]
    loss: Option<f64>,
    /// Lose them so many at a time on average, instead of one by one.
    #[arg(long, requires = "loss")]
    burst: Option<f64>,
    /// Mbit/s; 0 for no limit.
    #[arg(long)]
    rate_mbit: Option<f64>,
    /// KB that may wait for their turn.
    #[arg(long)]
    queue_kb: Option<u64>,
    /// Per cent reordered.
    #[arg(long)]
    reorder: Option<f64>,
    /// Per cent doubled.
    #[arg(long)]
    duplicate: Option<f64>,
    /// Per cent with a bit flipped.
    #[arg(long)]
    corrupt: Option<f64>,
    /// Longer packets vanish; 0 for no limit.
    #[arg(long)]
    mtu: Option<usize>,
    /// Whether anything passes.
    #[arg(long)]
    up: Option<bool>,
    /// Whether UDP vanishes.
    #[arg(long)]
    block_udp: Option<bool>,
}

impl ConditionArgs {
    pub(crate) fn apply(&self, to: &mut Conditions) {
        let millis = |ms: f64| Duration::from_secs_f64(ms.max(0.0) / 1000.0);
        put(&mut to.delay, self.rtt_ms.map(|ms| millis(ms / 2.0)));
        put(&mut to.jitter, self.jitter_ms.map(millis));
        put(&mut to.loss, self.loss.map(|share| self.loss(share / 100.0)));
        put(
            &mut to.rate,
            self.rate_mbit
                .map(|rate| (rate > 0.0).then_some((rate * 1e6) as u64)),
        );
        put(&mut to.queue, self.queue_kb.map(|kb| kb * 1000));
        put(&mut to.reorder, self.reorder.map(|share| share / 100.0));
        put(&mut to.duplicate, self.duplicate.map(|share| share / 100.0));
        put(&mut to.corrupt, self.corrupt.map(|share| share / 100.0));
        put(&mut to.mtu, self.mtu.map(|mtu| (mtu > 0).then_some(mtu)));
        put(&mut to.up, self.up);
        put(&mut to.block_udp, self.block_udp);
    }

    fn loss(&self, share: f64) -> Loss {
        match self.burst {
            Some(length) => Loss::bursts(share, length.max(1.0)),
            None => Loss::random(share),
        }
    }
}

fn put<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}
