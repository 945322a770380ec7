//! A UDP socket for QUIC that survives network errors and reports that nobody listens at the peer's port.
//!
//! quinn's own wrapper ignores every error of a socket. One of them is useful: ICMP "port unreachable", which the kernel
//! reports on a connected socket (udp(7), `ECONNREFUSED`).

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use tokio::{io::Interest, sync::Notify};
use tokio_util::sync::ReusableBoxFuture;

/// Kernel buffer requested for each direction, in bytes. The system may give less.
const BUFFER: usize = 4 * 1024 * 1024;

/// Errors read from a socket in a row before other tasks may run.
const ERRORS_AT_ONCE: usize = 16;

/// Packets over a UDP socket, with the kernel's batches (GSO, GRO) and ECN marks, as in quinn's own wrapper.
#[derive(Debug)]
pub struct UdpCarrier {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    refused: Arc<Notify>,
}

impl UdpCarrier {
    /// Sends to and receives from any address.
    ///
    /// # Errors
    /// When the socket does not support the options that QUIC needs. Must be called within a tokio runtime.
    pub fn new(socket: UdpSocket) -> io::Result<Arc<Self>> {
        let buffers = socket2::SockRef::from(&socket);
        // Best effort: the system's own limits (net.core.rmem_max) decide in the end.
        let _ = buffers.set_recv_buffer_size(BUFFER);
        let _ = buffers.set_send_buffer_size(BUFFER);
        Ok(Arc::new(Self {
            state: UdpSocketState::new((&socket).into())?,
            io: tokio::net::UdpSocket::from_std(socket)?,
            refused: Arc::default(),
        }))
    }

    /// Sends to and receives from `peer` only.
    ///
    /// On Linux the socket is connected, so that [`UdpCarrier::refused`] works. Its source address is fixed then: when this
    /// machine's address changes, the socket must be replaced. Other systems do not allow sending to an explicit address on
    /// a connected socket, as quinn does (`EISCONN`, send(2)), so there the socket is not connected.
    ///
    /// # Errors
    /// As [`UdpCarrier::new`], and when there is no route to the peer.
    pub fn to_peer(socket: UdpSocket, peer: SocketAddr) -> io::Result<Arc<Self>> {
        if cfg!(target_os = "linux") {
            socket.connect(peer)?;
        }
        Self::new(socket)
    }

    /// Returns when the peer's host reports that nobody listens at the peer's port: the process is gone, or a firewall says
    /// so. Each report is returned once; one that nobody waited for goes to the next caller. Does not keep the socket open.
    /// Never returns for a socket without a peer.
    pub fn refused(&self) -> impl Future<Output = ()> + Send + use<> {
        let refused = self.refused.clone();
        async move { refused.notified().await }
    }

    /// Handles an asynchronous error. ICMP can be forged, and a network may come back, so no error closes the socket.
    fn note(&self, error: &io::Error) {
        tracing::trace!(%error, "UDP socket");
        if error.kind() == io::ErrorKind::ConnectionRefused {
            self.refused.notify_one();
        }
    }
}

impl AsyncUdpSocket for UdpCarrier {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable {
            waiting: ReusableBoxFuture::new(writable(self.clone())),
            finished: false,
            carrier: self,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let send = || {
            self.io.try_io(Interest::WRITABLE, || {
                self.state.try_send((&self.io).into(), transmit)
            })
        };
        let sent = match send() {
            // The error of an earlier packet is reported to the next system call, which then does nothing else.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.note(&error);
                send()
            }
            sent => sent,
        };
        match sent {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                self.note(&error);
                Ok(())
            }
            sent => sent,
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut errors = 0;
        while errors < ERRORS_AT_ONCE {
            // Fails only when the runtime ends.
            ready!(self.io.poll_recv_ready(cx))?;
            match self.io.try_io(Interest::READABLE, || {
                self.state.recv((&self.io).into(), bufs, meta)
            }) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    errors += 1;
                    self.note(&error);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

async fn writable(carrier: Arc<UdpCarrier>) -> io::Result<()> {
    carrier.io.writable().await
}

/// A task that waits until the socket is writable.
#[derive(Debug)]
struct Writable {
    carrier: Arc<UdpCarrier>,
    waiting: ReusableBoxFuture<'static, io::Result<()>>,
    /// `waiting` has returned and must not be polled again.
    finished: bool,
}

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.finished {
            this.waiting.set(writable(this.carrier.clone()));
            this.finished = false;
        }
        let result = ready!(this.waiting.poll(cx));
        this.finished = true;
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use quinn::udp::EcnCodepoint;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::{
        identity::{AllowedClients, Identity},
        quic::{self, CarrierKind},
    };

    fn loopback() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    async fn send(carrier: &UdpCarrier, destination: SocketAddr) -> io::Result<()> {
        carrier.io.writable().await?;
        carrier.try_send(&Transmit {
            destination,
            ecn: None,
            contents: b"x",
            segment_size: None,
            src_ip: None,
        })
    }

    #[tokio::test]
    async fn a_closed_port_is_reported_at_once_and_the_endpoint_survives() {
        let closed = loopback().local_addr().unwrap();
        let carrier = UdpCarrier::to_peer(loopback(), closed).unwrap();
        let refused = carrier.refused();
        let endpoint = quic::client_endpoint_on(carrier, CarrierKind::Udp).unwrap();

        let (agent, client) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let connecting = quic::connect(&endpoint, closed, &client, agent.fingerprint()).unwrap();
        let started = Instant::now();
        timeout(Duration::from_secs(1), refused)
            .await
            .expect("the kernel reports it");
        assert!(started.elapsed() < Duration::from_secs(1));

        // An agent starts at that port, and the same attempt succeeds.
        let allowed = AllowedClients::default();
        allowed.allow(client.fingerprint());
        let serving = quic::agent_endpoint(UdpSocket::bind(closed).unwrap(), &agent, allowed).unwrap();
        let met = async {
            let accepted = async { serving.accept().await.unwrap().await.unwrap() };
            let (_accepted, connected) = tokio::join!(accepted, connecting);
            connected.unwrap();
        };
        timeout(Duration::from_secs(10), met)
            .await
            .expect("the endpoint survives");
    }

    #[tokio::test]
    async fn a_peer_that_goes_away_later_is_reported_each_time() {
        let peer = loopback();
        let address = peer.local_addr().unwrap();
        let carrier = UdpCarrier::to_peer(loopback(), address).unwrap();
        send(&carrier, address).await.unwrap();
        let early = timeout(Duration::from_millis(100), carrier.refused());
        assert!(early.await.is_err(), "somebody listens");
        drop(peer);
        for _ in 0..3 {
            // The refusal of the first is reported to the second.
            send(&carrier, address).await.unwrap();
            send(&carrier, address).await.unwrap();
            timeout(Duration::from_secs(1), carrier.refused())
                .await
                .expect("nobody listens");
        }
    }

    /// Receives `total` bytes. Returns the sizes and ECN marks of the packets.
    async fn receive(carrier: &UdpCarrier, total: usize) -> Vec<(usize, Option<EcnCodepoint>)> {
        let mut packets = Vec::new();
        while packets.iter().map(|(size, _)| size).sum::<usize>() < total {
            let mut buffer = vec![0; 1 << 16];
            let mut meta = [RecvMeta::default()];
            let received =
                poll_fn(|cx| carrier.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta));
            assert_eq!(received.await.unwrap(), 1);
            let sizes = buffer[..meta[0].len].chunks(meta[0].stride).map(<[u8]>::len);
            packets.extend(sizes.map(|size| (size, meta[0].ecn)));
        }
        packets
    }

    #[tokio::test]
    async fn batches_and_ecn_marks_pass_a_connected_socket_unchanged() {
        for (here, there) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:0", "[::1]:0"),
            ("0.0.0.0:0", "127.0.0.1:0"),
        ] {
            let (Ok(here), Ok(there)) = (UdpSocket::bind(here), UdpSocket::bind(there)) else {
                crate::not_run::not_run("this machine has no ::1");
                continue;
            };
            let there = UdpCarrier::new(there).unwrap();
            let destination = there.local_addr().unwrap();
            let here = UdpCarrier::to_peer(here, destination).unwrap();
            let segments = here.max_transmit_segments().min(4);
            here.io.writable().await.unwrap();
            here.try_send(&Transmit {
                destination,
                ecn: Some(EcnCodepoint::Ect0),
                contents: &vec![1; 1200 * segments],
                segment_size: Some(1200),
                src_ip: None,
            })
            .unwrap();
            let received = timeout(Duration::from_secs(5), receive(&there, 1200 * segments)).await;
            assert_eq!(
                received.unwrap(),
                vec![(1200, Some(EcnCodepoint::Ect0)); segments],
                "{destination}"
            );
            assert!(!here.may_fragment());
        }
    }

    #[tokio::test]
    async fn an_unreachable_network_closes_nothing() {
        let carrier = UdpCarrier::new(loopback()).unwrap();
        // There is no route from a loopback address to another host.
        let packet = send(&carrier, "192.0.2.1:9".parse().unwrap());
        packet.await.expect("lost like any packet, without an error");
    }
}
