//! The command line.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jq_tests::lab::{Conditions, Gpus, HostName, Loss, Topology};

/// Simulates hosts on one machine: laptop, gateway and GPU host, with links, sshd and dockerd.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    /// The lab to use if several are running (its four hexadecimal digits).
    #[arg(long, global = true)]
    pub(crate) lab: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a lab and leave it running.
    Up(UpArgs),
    /// Run a lab until a request asks to remove it.
    #[command(hide = true)]
    Hold(UpArgs),
    /// Remove a lab.
    Down {
        /// Remove all labs, including the remains and logs of killed and failed ones.
        #[arg(long)]
        all: bool,
    },
    /// Show the running labs with their hosts and links.
    Status,
    /// Run a command on a host, as its user.
    Run {
        /// laptop, gateway or gpu.
        host: HostName,
        /// As root, in the host's network.
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
        /// As root, in the host's network.
        #[arg(long)]
        root: bool,
    },
    /// Run the `docker` command with the GPU host's engine, as root.
    Docker {
        /// Its arguments.
        #[arg(last = true, required = true)]
        args: Vec<OsString>,
    },
    /// Change a link. Conditions that are not given stay as they are.
    Link(LinkArgs),
    /// Start or stop a host's sshd. Stopping it also ends its sessions.
    Sshd {
        /// gateway or gpu.
        host: HostName,
        /// Whether to start or stop it.
        run: Run,
    },
    /// Start or stop the GPU host's dockerd.
    Engine {
        /// Whether to start or stop it.
        run: Run,
    },
    /// Build the images that are not in the cache.
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
    /// Without dockerd.
    #[arg(long)]
    pub(crate) no_docker: bool,
    /// Simulated GPUs of the GPU host: N, N:broken-hook, N:no-hook.
    #[arg(long, default_value = "0")]
    pub(crate) gpus: Gpus,
    /// Seed of the links' random events.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) conditions: ConditionArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    /// Change the link between gateway and GPU host instead of the laptop's.
    #[arg(long)]
    pub(crate) near: bool,
    /// Change only the direction that leaves this host.
    #[arg(long)]
    pub(crate) from: Option<HostName>,
    #[command(flatten)]
    pub(crate) conditions: ConditionArgs,
}

/// Conditions to change. Percentages are of packets.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConditionArgs {
    /// Round-trip time in milliseconds, half of it in each direction.
    #[arg(long)]
    rtt_ms: Option<f64>,
    /// Jitter of each direction in milliseconds, added or subtracted.
    #[arg(long)]
    jitter_ms: Option<f64>,
    /// Percentage lost.
    #[arg(long)]
    loss: Option<f64>,
    /// Average length of bursts of lost packets. Default: packets are lost independently.
    #[arg(long, requires = "loss")]
    burst: Option<f64>,
    /// Mbit/s; 0 for no limit.
    #[arg(long)]
    rate_mbit: Option<f64>,
    /// Size of the queue in KB.
    #[arg(long)]
    queue_kb: Option<u64>,
    /// Percentage reordered.
    #[arg(long)]
    reorder: Option<f64>,
    /// Percentage duplicated.
    #[arg(long)]
    duplicate: Option<f64>,
    /// Percentage with a flipped bit.
    #[arg(long)]
    corrupt: Option<f64>,
    /// Maximum packet size in bytes; longer packets are dropped silently. 0 for no limit.
    #[arg(long)]
    mtu: Option<usize>,
    /// Whether the link is up.
    #[arg(long)]
    up: Option<bool>,
    /// Whether UDP is dropped silently.
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
