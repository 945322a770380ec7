//! Portable lookup of the source address for a peer.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use super::routes::Sources;

/// Interval of checks without reports of the kernel.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// The source address that this machine would use for each of `peers`.
pub(super) fn sources(peers: &[SocketAddr]) -> Sources {
    peers.iter().map(|peer| (*peer, source(*peer))).collect()
}

/// Connecting a datagram socket selects a route and a source address, and sends nothing.
fn source(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_on_this_machine_is_reached_from_itself() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        assert_eq!(source(peer), Some(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn an_address_without_a_route_has_no_source() {
        // The broadcast address: connecting to it needs an option that a new socket lacks.
        assert_eq!(source(SocketAddr::from(([255, 255, 255, 255], 9))), None);
    }
}
