//! A UDP socket that sends and receives several packets per system call and keeps their lengths and congestion marks
//! (GRO and GSO, udp(7); ECN).

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket};

/// A UDP socket that sends and receives in batches.
pub(super) struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Socket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        // Best effort: the system's limits apply.
        let buffers = socket2::SockRef::from(&socket);
        let _ = buffers.set_recv_buffer_size(4 * 1024 * 1024);
        let _ = buffers.set_send_buffer_size(4 * 1024 * 1024);
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            state,
        })
    }

    /// Receives into `buffers`. Returns how many of `meta` are filled.
    pub(super) async fn receive(&self, buffers: &mut [Vec<u8>], meta: &mut [RecvMeta]) -> io::Result<usize> {
        self.socket
            .async_io(Interest::READABLE, || {
                let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
                self.state.recv((&self.socket).into(), &mut slices, meta)
            })
            .await
    }

    /// Sends `packets`, each of `stride` bytes except the last, to `to`, from the local address `from` if given. What
    /// cannot be sent is dropped: QUIC retransmits.
    pub(super) fn send(&self, to: SocketAddr, from: Option<IpAddr>, packets: &[u8], meta: &RecvMeta) {
        let stride = meta.stride.max(1);
        for batch in packets.chunks(stride.saturating_mul(self.state.max_gso_segments())) {
            let transmit = Transmit {
                destination: to,
                ecn: meta.ecn,
                contents: batch,
                segment_size: (batch.len() > stride).then_some(stride),
                src_ip: from,
            };
            let send = || {
                self.socket.try_io(Interest::WRITABLE, || {
                    self.state.try_send((&self.socket).into(), &transmit)
                })
            };
            let sent = match send() {
                // The error of an earlier packet that nobody received, reported on this one (udp(7)). Try again: a
                // receiver may be back.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    tracing::debug!(%to, "an earlier packet was refused");
                    send()
                }
                sent => sent,
            };
            if let Err(error) = sent {
                tracing::trace!(%error, %to, "packets were dropped");
            }
        }
    }
}
