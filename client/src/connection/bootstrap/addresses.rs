//! Where hosts can be reached with UDP.

use std::net::{IpAddr, SocketAddr};

use tokio::net::lookup_host;

use crate::{
    error::{Failure, Kind},
    ssh::{RemoteHost, SshHost},
};

/// The addresses of a host that ssh connects to from here.
pub(super) async fn resolved(host: &SshHost, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let name = host.hostname();
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip.to_canonical(), port)]);
    }
    let found = lookup_host((name, port)).await.map_err(|error| {
        Failure::new(Kind::UnknownHost, format!("cannot find the address of {name}"))
            .on(host.name())
            .because(error)
            .hint("ssh reaches it by a way of its own (ProxyCommand?); use ProxyJump for it")
    })?;
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Whether an address that a host calls its own can mean that host from elsewhere: it is one host's, and not only on
/// its link or within itself.
pub(super) fn is_a_hosts(address: IpAddr) -> bool {
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
    fn only_an_address_of_one_host_is_sent_to() {
        for address in [
            "10.0.0.2",
            "192.0.2.1",
            "100.64.0.1",
            "2001:db8::1",
            "fd00::1",
            "::ffff:10.0.0.2",
        ] {
            assert!(is_a_hosts(address.parse().unwrap()), "{address}");
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
            assert!(!is_a_hosts(address.parse().unwrap()), "{address}");
        }
    }
}
