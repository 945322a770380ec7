//! A TCP listener on the loopback of this machine.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use jq_common::session::socket::reset_on_close;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// Number of ports that are tried after one that is in use.
const TRIES: u16 = 100;

/// Pause after an error of `accept`, for example without descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// A port on 127.0.0.1 and, if this machine has it, ::1.
pub(crate) struct Listener {
    v4: TcpListener,
    v6: Option<TcpListener>,
    port: u16,
}

impl Listener {
    /// Listens on `wanted` or, if it is in use, on the next free port.
    ///
    /// # Errors
    /// When neither `wanted` nor one of the next hundred ports can be bound.
    pub(crate) async fn bind(wanted: u16) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in wanted..=wanted.saturating_add(TRIES) {
            match Self::on(port).await {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Binds both addresses or none: a browser may use either for `localhost`, and must not reach another program.
    async fn on(port: u16) -> io::Result<Self> {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = v4.local_addr()?.port();
        let v6 = match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            Ok(listener) => Some(listener),
            // This machine has no ::1.
            Err(error) if has_no_address(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { v4, v6, port })
    }

    /// The port.
    #[must_use]
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Accepts the next connection from this machine. Dropping the connection resets it. Cancel safe.
    pub(crate) async fn accept(&self) -> TcpStream {
        loop {
            let accepted = match &self.v6 {
                Some(v6) => tokio::select! {
                    accepted = self.v4.accept() => accepted,
                    accepted = v6.accept() => accepted,
                },
                None => self.v4.accept().await,
            };
            match accepted {
                Ok((tcp, peer)) if is_loopback(peer) => {
                    reset_on_close(&tcp);
                    return tcp;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

fn has_no_address(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)
    )
}

fn is_loopback(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_moves_the_listener_to_the_next_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wanted = taken.local_addr().unwrap().port();
        let listener = Listener::bind(wanted).await.unwrap();
        assert!(listener.port() > wanted && listener.port() <= wanted + TRIES);
    }

    #[tokio::test]
    async fn other_machines_find_nothing_at_the_port() {
        let listener = Listener::bind(0).await.unwrap();
        assert!(
            TcpStream::connect((Ipv4Addr::LOCALHOST, listener.port()))
                .await
                .is_ok()
        );
        let bound = [Some(&listener.v4), listener.v6.as_ref()];
        for own in bound.into_iter().flatten() {
            assert!(own.local_addr().unwrap().ip().is_loopback(), "{own:?}");
        }
        // An address of this machine that is not the one bound, as that of a network card is.
        let other = TcpStream::connect((Ipv4Addr::new(127, 0, 0, 2), listener.port())).await;
        assert!(other.is_err(), "{other:?}");
    }

    #[test]
    fn a_peer_elsewhere_is_none_of_ours() {
        for (peer, is_ours) in [
            ("127.0.0.1:5", true),
            ("[::1]:5", true),
            ("[::ffff:127.0.0.1]:5", true),
            ("192.0.2.1:5", false),
            ("[2001:db8::1]:5", false),
        ] {
            assert_eq!(is_loopback(peer.parse().unwrap()), is_ours, "{peer}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_on_ipv6_only_is_not_shared() {
        let Ok(taken) = TcpListener::bind("[::1]:0").await else {
            return crate::not_run::not_run("this machine has no ::1");
        };
        let wanted = taken.local_addr().unwrap().port();
        let listener = Listener::bind(wanted).await.unwrap();
        assert_ne!(listener.port(), wanted);
    }
}
