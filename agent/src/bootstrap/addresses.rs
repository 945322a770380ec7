//! Further addresses of this host: a laptop that changes networks may be able to reach only another address family than
//! the one its ssh connection used.

use std::net::{IpAddr, Ipv6Addr};

use jq_common::bootstrap::MOST_ADDRESSES;

/// Interfaces of containers, bridges and virtual machines, by name prefix.
const INNER: [&str; 6] = ["br-", "docker", "lo", "podman", "veth", "virbr"];

/// Flags of addresses that are not announced: temporary, deprecated, tentative, or failed duplicate detection
/// (`IFA_F_*`, rtnetlink(7)).
const PASSING: u32 = 0x01 | 0x20 | 0x40 | 0x08;

/// This host's global IPv6 addresses.
pub(super) fn own() -> Vec<IpAddr> {
    // A host without IPv6 does not have this file.
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let addresses = table.lines().filter_map(global).map(IpAddr::V6);
    addresses.take(MOST_ADDRESSES).collect()
}

/// Parses a line of `/proc/net/if_inet6`: address, interface index, prefix length, scope, flags, interface name. None
/// unless it is an address to announce.
fn global(line: &str) -> Option<Ipv6Addr> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [address, _, _, scope, flags, name] = fields.as_slice() else {
        return None;
    };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let inner = INNER.iter().any(|prefix| name.starts_with(prefix));
    if *scope != "00" || flags & PASSING != 0 || inner || address.len() != 32 {
        return None;
    }
    u128::from_str_radix(address, 16).ok().map(Ipv6Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_permanent_global_addresses_are_announced() {
        let lasting = "20010db8000000000000000000000005 02 40 00 80     eth0";
        assert_eq!(global(lasting), Some("2001:db8::5".parse().unwrap()));
        for other in [
            "fe800000000000000000000000000005 02 40 20 80     eth0",
            "00000000000000000000000000000001 01 80 10 80       lo",
            "20010db8000000000000000000000006 02 40 00 01     eth0",
            "20010db8000000000000000000000007 03 40 00 80  docker0",
            "zz010db8000000000000000000000007 03 40 00 80     eth0",
            "",
        ] {
            assert_eq!(global(other), None, "{other}");
        }
    }
}
