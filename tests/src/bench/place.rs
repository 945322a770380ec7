//! A lab with the service on its GPU host.

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    clock::last,
    target::Target,
    wire::{Kind, Wire},
};
use crate::lab::{Builder, Host, HostName, Lab, Topology, tools};

/// Time limit for the queues to drain. With packet loss, ssh needs a long time for data that it has read from eight streams
/// before they were reset.
const DRAIN: Duration = Duration::from_secs(240);

/// Bytes in a fifth of a second up to which the link counts as idle: a few keep-alives.
const QUIET: u64 = 2_000;

/// TCP's congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// The default of laptops and servers.
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
            // The benchmarks open and close tens of thousands of connections.
            set(host, "net/ipv4/ip_local_port_range", "10000 65000")?;
            set(host, "net/ipv4/tcp_tw_reuse", "1")?;
        }
        let target = Target::start(lab.gpu())?;
        Ok(Self { target, wire, lab })
    }

    /// The address of the GPU host for direct connections.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.lab.gpu().address
    }

    /// Sets the congestion control of new TCP connections on all hosts.
    pub(super) fn control(&self, control: Control) -> Result<()> {
        let name = match control {
            Control::Cubic => "cubic",
            Control::Bbr => "bbr",
        };
        hosts(&self.lab)
            .into_iter()
            .try_for_each(|host| set(host, "net/ipv4/tcp_congestion_control", name))
    }

    /// Waits until the laptop's link is idle. TCP is also silent for a while after a lost packet, so its send queues must be
    /// empty too.
    ///
    /// # Errors
    /// When it takes too long: the remaining traffic would distort the next measurement.
    pub(super) fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + DRAIN;
        let mut before = self.carried();
        loop {
            last(Duration::from_millis(200));
            let now = self.carried();
            let is_quiet = now - before <= QUIET && self.queued()? == 0;
            if is_quiet {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the link still carries data of the previous peer after {} s",
                DRAIN.as_secs()
            );
            before = now;
        }
    }

    /// Bytes sent over the laptop's link so far, in both directions.
    pub(super) fn carried(&self) -> u64 {
        let link = self.lab.link();
        let ways = link.ends().map(|end| link.counters_from(end));
        ways.into_iter().flatten().map(|way| way.bytes).sum()
    }

    /// Bytes that are in the send queues of all TCP connections on all hosts.
    fn queued(&self) -> Result<u64> {
        let mut all = 0;
        for host in hosts(&self.lab) {
            for table in ["tcp", "tcp6"] {
                // This file shows the network namespace of the thread that reads it.
                let read = host.enter(|| fs::read_to_string(format!("/proc/thread-self/net/{table}")))?;
                all += queues(&read.with_context(|| format!("cannot see connections on {}", host.name))?);
            }
        }
        Ok(all)
    }

    pub(super) fn down(self) -> Result<()> {
        let Self { target, lab, .. } = self;
        drop(target);
        lab.down()
    }
}

/// The unacknowledged bytes of all connections in a table of /proc/net (proc_pid_net(5)).
fn queues(table: &str) -> u64 {
    let connections = table.lines().skip(1);
    let queue = |line: &str| u64::from_str_radix(line.split_whitespace().nth(4)?.split(':').next()?, 16).ok();
    connections.filter_map(queue).sum()
}

pub(super) fn hosts(lab: &Lab) -> Vec<&Host> {
    let known = HostName::ALL.into_iter();
    known.filter_map(|name| lab.state().host(name)).collect()
}

/// Writes a setting of the host's network namespace.
fn set(host: &Host, setting: &str, value: &str) -> Result<()> {
    // This folder shows the network namespace of the thread that accesses it.
    let written = host.enter(|| fs::write(format!("/proc/sys/{setting}"), value))?;
    written.with_context(|| format!("cannot set {setting} on {}", host.name))
}

/// Moves the addresses of both hosts to a veth pair. The lab's link passes packets through this process, which would be the
/// bottleneck.
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

/// Enables forwarding on the gateway, for direct connections to the GPU host.
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

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn bytes_that_have_not_arrived_are_counted() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let own = |sender: &TcpStream| {
            let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
            let port = format!(":{:04X}", sender.local_addr().unwrap().port());
            let is_own = |line: &&str| {
                line.split_whitespace()
                    .nth(1)
                    .is_some_and(|local| local.ends_with(&port))
            };
            let row = table.lines().find(is_own).unwrap();
            queues(&format!("a heading\n{row}\n"))
        };
        assert_eq!(own(&sender), 0);
        sender.set_nonblocking(true).unwrap();
        // Nobody reads, so bytes stay in the send queue in the end.
        while sender.write(&[0; 65_536]).is_ok() {}
        assert!(own(&sender) > 0);
    }
}
