//! A router with network address translation, whose mappings a test can change.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, ensure};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::host::Host;

/// Network address translation on the gateway of a lab: the laptop reaches the GPU host through it, as from a home or an
/// office network.
#[derive(Debug)]
pub struct Nat {
    router: Host,
    /// The block of a thousand ports that it assigns from.
    ports: u16,
}

impl Nat {
    /// Makes `router` forward and translate packets from `inside` to the network of `outside`, a neighbour of the router.
    pub fn start(inside: &Host, router: &Host, outside: &Host) -> Result<Self> {
        router.run_as_root("sysctl -qw net.ipv4.ip_forward=1")?;
        let [a, b, c, _] = outside.address.octets();
        let (through, to) = (router.address, outside.address);
        inside.run_as_root(&format!("ip route replace {a}.{b}.{c}.0/24 via {through}"))?;
        let device = router.run_as_root(&format!("ip -o route get {to}"))?;
        let device = device
            .split(" dev ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let device = device.context("the router has no route to the outside")?;
        router.run_as_root(&format!(
            "nft 'add table ip jqnat; add chain ip jqnat out {{ type nat hook postrouting priority srcnat; \
             }}; add set ip jqnat to {{ type ifname; elements = {{ \"{device}\" }}; }}'"
        ))?;
        let mut nat = Self {
            router: router.clone(),
            ports: 20,
        };
        nat.rules()?;
        Ok(nat)
    }

    /// Assigns another port to every UDP flow at once: the outside sees a new source address.
    pub fn rebind(&mut self) -> Result<()> {
        self.ports = if self.ports >= 50 { 20 } else { self.ports + 1 };
        self.rules()?;
        self.forget()
    }

    /// Drops all mappings, as after a long silence: packets from outside are not forwarded until a packet was sent from
    /// inside.
    pub fn forget(&self) -> Result<()> {
        self.router.enter(flush)?
    }

    fn rules(&mut self) -> Result<()> {
        let first = u32::from(self.ports) * 1000;
        let last = first + 999;
        self.router
            .run_as_root(&format!(
                "nft 'flush chain ip jqnat out; \
                 add rule ip jqnat out oifname @to meta l4proto udp masquerade to :{first}-{last}; \
                 add rule ip jqnat out oifname @to masquerade'"
            ))
            .map(drop)
    }
}

/// Empties the connection tracking table of the caller's network: nfnetlink's `IPCTNL_MSG_CT_DELETE` without a
/// pattern (linux/netfilter/nfnetlink_conntrack.h).
fn flush() -> Result<()> {
    const DELETE: u16 = 1 << 8 | 2;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;
    const LENGTH: u32 = 20;
    let socket: OwnedFd = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::NETFILTER),
    )
    .context("cannot reach the kernel's connection tracking")?;
    let mut message = Vec::new();
    message.extend(LENGTH.to_ne_bytes());
    message.extend(DELETE.to_ne_bytes());
    message.extend(REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    // Sequence number, port; then family, version and resource. 0 stands for any.
    message.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    rustix::net::send(&socket, &message, SendFlags::empty()).context("cannot flush connection tracking")?;
    let mut answer = [0_u8; 256];
    let (got, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    // A header of 16 bytes, then the error code, 0 for success (netlink(7)).
    let error = answer[..got].get(16..20).and_then(|bytes| bytes.first_chunk());
    let error = error.map(|bytes| i32::from_ne_bytes(*bytes));
    ensure!(error == Some(0), "cannot flush connection tracking: {error:?}");
    Ok(())
}
