//! The UDP socket that a role listens on.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Preferred ports: the range that mosh uses, which many firewalls let pass.
const PREFERRED: std::ops::Range<u16> = 60_000..61_000;

/// How many preferred ports are tried before any other is taken.
const TRIES: usize = 16;

/// Binds a socket on all addresses of the host, IPv6 and IPv4.
///
/// # Errors
/// When no port can be bound.
pub(crate) fn bind() -> io::Result<UdpSocket> {
    let random = jq_common::bootstrap::random::<{ TRIES * 2 }>().map_err(io::Error::other)?;
    let preferred = random.chunks_exact(2).map(|pair| {
        let offset = u16::from_be_bytes([pair[0], pair[1]]) % (PREFERRED.end - PREFERRED.start);
        PREFERRED.start + offset
    });
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in preferred.chain([0]) {
        match on_port(port) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn on_port(port: u16) -> io::Result<UdpSocket> {
    let dual = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(false)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        Ok(socket.into())
    };
    match dual() {
        Err(error) if has_no_ipv6(&error) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)),
        other => other,
    }
}

fn has_no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_reached_over_ipv4() {
        let socket = bind().unwrap();
        let port = socket.local_addr().unwrap().port();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"x", ("127.0.0.1", port)).unwrap();
        assert_eq!(socket.recv(&mut [0; 4]).unwrap(), 1);
    }

    #[test]
    fn ports_come_from_the_preferred_range() {
        assert!(PREFERRED.contains(&bind().unwrap().local_addr().unwrap().port()));
    }
}
