//! Changes the addresses of a host, and drops UDP flows silently.

use std::{fmt::Write as _, net::IpAddr, path::PathBuf};

use anyhow::{Context as _, Result};
use rustix::process::Pid;

use super::host::Host;

impl Host {
    /// Replaces the address `from` by `to`, on the same device and of the same family. Connections from the old address are
    /// dead.
    pub fn change_address(&self, from: IpAddr, to: IpAddr) -> Result<()> {
        let device = self.lose_address(from)?;
        self.gain_address(to, &device)
    }

    /// Removes an address. Returns the device that had it.
    pub fn lose_address(&self, address: IpAddr) -> Result<String> {
        let device = self.device_of(address)?;
        // The kernel removes routes together with the last address of their family. Routes through a gateway are saved here
        // and restored with the next address, as DHCP would do.
        self.run_as_root(&format!(
            "ip route show dev {device} | grep via >{}; ip addr del {} dev {device}",
            self.lost_routes().display(),
            with_mask(address)
        ))?;
        Ok(device)
    }

    /// Adds an address to a device, and restores the routes that [`Self::lose_address`] saved.
    pub fn gain_address(&self, address: IpAddr, device: &str) -> Result<()> {
        let nodad = if address.is_ipv6() { "nodad" } else { "" };
        let routes = self.lost_routes();
        let routes = routes.display();
        self.run_as_root(&format!(
            "ip addr add {} dev {device} {nodad} && touch {routes} && \
             while read -r route; do ip route replace $route dev {device} || true; done <{routes}",
            with_mask(address),
        ))
        .map(drop)
    }

    fn lost_routes(&self) -> PathBuf {
        self.dir.join("lost-routes")
    }

    /// Silently drops all packets to and from the UDP sockets that the process has now. Sockets that it opens later are not
    /// affected. [`Self::restore_udp`] undoes it.
    pub fn silence_udp_of(&self, pid: Pid) -> Result<()> {
        let mut ports = String::new();
        let mark = format!("pid={},", pid.as_raw_nonzero());
        for line in self
            .run_as_root("ss -Huanp")?
            .lines()
            .filter(|line| line.contains(&mark))
        {
            let local = line.split_whitespace().nth(3).unwrap_or_default();
            if let Some((_, port)) = local.rsplit_once(':') {
                let _ = write!(ports, "{}{port}", if ports.is_empty() { "" } else { ", " });
            }
        }
        if ports.is_empty() {
            // The process has no UDP sockets.
            return Ok(());
        }
        self.run_as_root(&format!(
            "nft 'add table inet jqquiet; \
             add chain inet jqquiet out {{ type filter hook output priority 0; }}; \
             add chain inet jqquiet in {{ type filter hook input priority 0; }}; \
             add rule inet jqquiet out udp sport {{ {ports} }} drop; \
             add rule inet jqquiet in udp dport {{ {ports} }} drop'"
        ))
        .map(drop)
    }

    /// Ends [`Self::silence_udp_of`].
    pub fn restore_udp(&self) -> Result<()> {
        self.run_as_root("nft 'add table inet jqquiet; delete table inet jqquiet'")
            .map(drop)
    }

    fn device_of(&self, address: IpAddr) -> Result<String> {
        let listed = self.run_as_root("ip -o addr")?;
        let wanted = format!(" {}", with_mask(address));
        let line = listed.lines().find(|line| line.contains(&wanted));
        let device = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(device
            .with_context(|| format!("{} has no address {address}", self.name))?
            .to_owned())
    }
}

/// The address with the prefix length of the lab's subnets.
fn with_mask(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}/24"),
        IpAddr::V6(address) => format!("{address}/64"),
    }
}
