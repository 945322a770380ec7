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

/// How long what is queued may take to leave a link. Where packets get lost, ssh may take longer for what it has read of
/// eight streams that are gone.
const DRAIN: Duration = Duration::from_secs(240);

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

    /// Waits until the laptop's link carries nothing any more. TCP that has lost a packet is silent for a while too, so its
    /// queues have to be empty.
    ///
    /// # Errors
    /// When that takes too long: whoever came next would be measured beside what is left.
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
                "the link still carries what is left of the last peer after {} s",
                DRAIN.as_secs()
            );
            before = now;
        }
    }

    /// Bytes handed to the laptop's link so far, both ways.
    pub(super) fn carried(&self) -> u64 {
        let link = self.lab.link();
        let ways = link.ends().map(|end| link.counters_from(end));
        ways.into_iter().flatten().map(|way| way.bytes).sum()
    }

    /// Bytes that TCP connections of all hosts have not brought to their other ends.
    fn queued(&self) -> Result<u64> {
        let mut all = 0;
        for host in hosts(&self.lab) {
            for table in ["tcp", "tcp6"] {
                // This folder shows the network of the thread that looks at it.
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

/// What all connections of a table in /proc/net have sent, or are to send, and nobody has acknowledged (proc_pid_net(5)).
fn queues(table: &str) -> u64 {
    let connections = table.lines().skip(1);
    let queue = |line: &str| u64::from_str_radix(line.split_whitespace().nth(4)?.split(':').next()?, 16).ok();
    connections.filter_map(queue).sum()
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

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn a_connection_whose_bytes_have_not_all_arrived_is_not_done() {
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
        // Nobody reads, so in the end some of it has to wait.
        while sender.write(&[0; 65_536]).is_ok() {}
        assert!(own(&sender) > 0);
    }
}
