//! Addresses of hosts for UDP.

use std::net::{IpAddr, SocketAddr};

use tokio::net::lookup_host;

use crate::{
    error::{Failure, Kind},
    ssh::{RemoteHost, SshHost},
};

/// Addresses of a host that ssh reaches directly from this machine.
pub(super) async fn resolved(host: &SshHost, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let name = host.hostname();
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip.to_canonical(), port)]);
    }
    let found = lookup_host((name, port)).await.map_err(|error| {
        Failure::new(Kind::UnknownHost, format!("cannot resolve {name}"))
            .on(host.name())
            .because(error)
            .hint("ssh probably reaches it with a ProxyCommand; name the jump host with -J or ProxyJump instead")
    })?;
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Whether an address that a host reports as its own can be used from another machine: a unicast address that is neither
/// loopback nor link-local.
pub(super) fn is_routable(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            !(ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast())
        }
        IpAddr::V6(ip) => {
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unicast_addresses_with_more_than_link_scope_are_used() {
        for address in [
            "10.0.0.2",
            "192.0.2.1",
            "100.64.0.1",
            "2001:db8::1",
            "fd00::1",
            "::ffff:10.0.0.2",
        ] {
            assert!(is_routable(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(!is_routable(address.parse().unwrap()), "{address}");
        }
    }
}
