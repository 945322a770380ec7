//! A listening TCP port on this machine's loopback.

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

/// How many ports after a taken one are tried.
const TRIES: u16 = 100;

/// How long accepting pauses when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// A port on 127.0.0.1 and, where this machine has it, ::1.
pub(crate) struct Listener {
    v4: TcpListener,
    v6: Option<TcpListener>,
    port: u16,
}

impl Listener {
    /// Listens on `wanted` or, where it is taken, on the next port that is free.
    ///
    /// # Errors
    /// When a hundred ports in a row are taken or may not be used.
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

    /// Both addresses or neither: a browser may take either for `localhost`, and must not reach a stranger there.
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

    /// The port it got.
    #[must_use]
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The next connection from this machine. It is reset when it is closed before all was carried. Dropping the future
    /// loses no connection.
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
    async fn a_taken_port_moves_the_listener_to_the_next_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wanted = taken.local_addr().unwrap().port();
        let listener = Listener::bind(wanted).await.unwrap();
        assert!(listener.port() > wanted && listener.port() <= wanted + TRIES);
    }

    #[tokio::test]
    async fn a_port_taken_on_ipv6_only_is_not_shared_with_a_stranger() {
        let Ok(taken) = TcpListener::bind("[::1]:0").await else {
            // This machine has no ::1, and so no stranger there.
            return;
        };
        let wanted = taken.local_addr().unwrap().port();
        let listener = Listener::bind(wanted).await.unwrap();
        assert_ne!(listener.port(), wanted);
    }
}
