//! A lab with the service on its GPU host.

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    clock::last,
    target::Target,
    wire::{Kind, Wire},
};
use crate::lab::{Builder, Host, HostName, Lab, Topology, tools};

/// How long what is queued may take to leave a link.
const DRAIN: Duration = Duration::from_secs(20);

/// What may pass a link in a fifth of a second that is taken to be unused: a few keep-alives.
const QUIET: u64 = 2_000;

/// TCP's congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// What laptops and servers run.
    Cubic,
    Bbr,
}

/// A lab with the service on its GPU host.
pub(super) struct Place {
    pub(super) target: Target,
    pub(super) wire: Wire,
    pub(super) lab: Lab,
}

impl Place {
    pub(super) fn up(wire: Wire) -> Result<Self> {
        Self::up_with(wire, |builder| builder)
    }

    pub(super) fn up_with(wire: Wire, more: impl FnOnce(Builder) -> Builder) -> Result<Self> {
        let topology = match wire.kind {
            Kind::Veth | Kind::Direct => Topology::Direct,
            Kind::Gateway => Topology::Gateway,
        };
        let builder = Lab::builder()
            .topology(topology)
            .far(|far| *far = wire.conditions());
        let lab = more(builder).up()?;
        match wire.kind {
            Kind::Veth => join_by_veth(&lab)?,
            Kind::Gateway => pass_on(&lab)?,
            Kind::Direct => {}
        }
        for host in hosts(&lab) {
            // Ten thousands of connections come and go.
            set(host, "net/ipv4/ip_local_port_range", "10000 65000")?;
            set(host, "net/ipv4/tcp_tw_reuse", "1")?;
        }
        let target = Target::start(lab.gpu())?;
        Ok(Self { target, wire, lab })
    }

    /// Where the GPU host is reached by those who go straight to it.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.lab.gpu().address
    }

    /// Which congestion control TCP connections are made with from now on, by everybody.
    pub(super) fn control(&self, control: Control) -> Result<()> {
        let name = match control {
            Control::Cubic => "cubic",
            Control::Bbr => "bbr",
        };
        hosts(&self.lab)
            .into_iter()
            .try_for_each(|host| set(host, "net/ipv4/tcp_congestion_control", name))
    }

    /// Waits until the laptop's link carries nothing any more, but not for ever.
    pub(super) fn settle(&self) {
        if self.wire.kind == Kind::Veth {
            last(Duration::from_millis(300));
            return;
        }
        let deadline = Instant::now() + DRAIN;
        let mut before = self.carried();
        loop {
            last(Duration::from_millis(200));
            let now = self.carried();
            if now - before <= QUIET || Instant::now() >= deadline {
                return;
            }
            before = now;
        }
    }

    /// Bytes handed to the laptop's link so far, both ways.
    pub(super) fn carried(&self) -> u64 {
        let link = self.lab.link();
        let ways = link.ends().map(|end| link.counters_from(end));
        ways.into_iter().flatten().map(|way| way.bytes).sum()
    }

    pub(super) fn down(self) -> Result<()> {
        let Self { target, lab, .. } = self;
        drop(target);
        lab.down()
    }
}

pub(super) fn hosts(lab: &Lab) -> Vec<&Host> {
    let known = HostName::ALL.into_iter();
    known.filter_map(|name| lab.state().host(name)).collect()
}

/// Writes a setting of the host's network.
fn set(host: &Host, setting: &str, value: &str) -> Result<()> {
    // This folder shows the network of the thread that looks at it.
    let written = host.enter(|| fs::write(format!("/proc/sys/{setting}"), value))?;
    written.with_context(|| format!("cannot set {setting} on {}", host.name))
}

/// Moves the addresses of both hosts to a pair of devices of the kernel's own: the lab's link passes packets through
/// this process, which then is the limit.
fn join_by_veth(lab: &Lab) -> Result<()> {
    let (laptop, gpu) = (lab.laptop(), lab.gpu());
    let ip = |words: &str| tools::run("ip", words.split_whitespace()).map(drop);
    let (near, far) = (&laptop.netns, &gpu.netns);
    ip(&format!(
        "-n {near} link add fast type veth peer name fast netns {far}"
    ))?;
    for (host, old) in [(laptop, "to-gpu"), (gpu, "to-laptop")] {
        let (netns, address) = (&host.netns, host.address);
        ip(&format!("-n {netns} addr del {address}/24 dev {old}"))?;
        ip(&format!("-n {netns} addr add {address}/24 dev fast"))?;
        ip(&format!("-n {netns} link set fast up"))?;
    }
    Ok(())
}

/// Lets the gateway pass packets on, for those who go straight to the GPU host.
fn pass_on(lab: &Lab) -> Result<()> {
    let (laptop, gateway, gpu) = (lab.laptop(), lab.gateway(), lab.gpu());
    set(gateway, "net/ipv4/ip_forward", "1")?;
    let [a, b, c, _] = gpu.address.octets();
    let towards = gateway.address;
    laptop.run_as_root(&format!("ip route add {a}.{b}.{c}.0/24 via {towards}"))?;
    let back = laptop.address;
    gpu.run_as_root(&format!("ip route add {back}/32 via {a}.{b}.{c}.1"))?;
    Ok(())
}
