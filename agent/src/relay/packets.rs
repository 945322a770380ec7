//! Moving packets: several a system call, each with its length and congestion mark kept (GRO and GSO, udp(7)).

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use jq_common::carrier::relay::{Kind, Packet};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket};

use super::{
    Shared,
    pairs::{Client, Pair},
};

/// Most bytes that one receive of coalesced packets can bring.
const COALESCED: usize = 64 * 1024;

/// QUIC's fixed bit and its long-header bit (RFC 9000, section 17): our own packets carry neither.
const QUIC_BITS: u8 = 0xc0;

/// A UDP socket that sends and receives in batches.
pub(super) struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Socket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        // The system's own limits decide in the end.
        let buffers = socket2::SockRef::from(&socket);
        let _ = buffers.set_recv_buffer_size(4 * 1024 * 1024);
        let _ = buffers.set_send_buffer_size(4 * 1024 * 1024);
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            state,
        })
    }

    /// Receives into `buffers`; the count says how many of `meta` are filled.
    async fn receive(&self, buffers: &mut [Vec<u8>], meta: &mut [RecvMeta]) -> io::Result<usize> {
        self.socket
            .async_io(Interest::READABLE, || {
                let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
                self.state.recv((&self.socket).into(), &mut slices, meta)
            })
            .await
    }

    /// Sends `packets`, of `stride` bytes each but the last, on to `to`, from the own
    /// address `from` or whichever the system takes. What cannot be sent is dropped: QUIC repeats.
    fn send(&self, to: SocketAddr, from: Option<IpAddr>, packets: &[u8], meta: &RecvMeta) {
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
                // An earlier packet met nobody, which is told in this one's place (udp(7)). Somebody may be there again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    tracing::debug!(%to, "nobody listens there");
                    send()
                }
                sent => sent,
            };
            if let Err(error) = sent {
                tracing::trace!(%error, %to, "dropped");
            }
        }
    }
}

/// Where packets are received into.
struct Batch {
    buffers: Vec<Vec<u8>>,
    meta: Vec<RecvMeta>,
}

impl Batch {
    fn new() -> Self {
        Self {
            buffers: vec![vec![0; COALESCED]; BATCH_SIZE],
            meta: vec![RecvMeta::default(); BATCH_SIZE],
        }
    }

    /// Receives, and gives each filled buffer with what is known of it.
    async fn fill(&mut self, socket: &Socket) -> impl Iterator<Item = (&[u8], &RecvMeta)> {
        let filled = match socket.receive(&mut self.buffers, &mut self.meta).await {
            Ok(filled) => filled,
            Err(error) => {
                // An ICMP error of an earlier packet: nothing was received, and whoever is away may come back.
                tracing::debug!(%error, "receive");
                0
            }
        };
        self.buffers
            .iter()
            .zip(&self.meta)
            .take(filled)
            .map(|(buffer, meta)| (&buffer[..meta.len], meta))
    }
}

impl Shared {
    /// Passes what clients send on to their agents, for ever.
    pub(super) async fn pass_outward(&self) {
        let mut batch = Batch::new();
        loop {
            for (packets, meta) in batch.fill(&self.socket).await {
                let one_by_one = packets.chunks(meta.stride.max(1));
                if one_by_one.clone().any(is_not_quic) {
                    one_by_one.for_each(|packet| self.take(packet, meta));
                } else {
                    self.pass_on(packets, meta);
                }
            }
        }
    }

    /// Answers a packet of the relay's own format, and passes on what is meant for the agent or for the next relay.
    fn take(&self, packet: &[u8], meta: &RecvMeta) {
        if !is_not_quic(packet) {
            return self.pass_on(packet, meta);
        }
        let Some(id) = Packet::claimed_pair(packet) else {
            return;
        };
        let from = Client {
            address: meta.addr,
            via: meta.dst_ip,
        };
        match self.pairs.get(&id) {
            Some(pair) => self.answer(packet, &pair, from),
            None => self.pass_on(packet, meta),
        }
    }

    /// Passes packets of a client that is bound on, and drops everybody else's.
    fn pass_on(&self, packets: &[u8], meta: &RecvMeta) {
        if let Some(pair) = self.pairs.of_client(meta.addr) {
            pair.touch();
            pair.upstream.send(pair.agent, None, packets, meta);
        }
    }

    /// Passes what the agent of `pair` sends on to its client, for ever.
    pub(super) async fn pass_inward(&self, pair: &Arc<Pair>) {
        let mut batch = Batch::new();
        loop {
            for (packets, meta) in batch.fill(&pair.upstream).await {
                if let Some(client) = pair.client() {
                    pair.touch();
                    self.socket.send(client.address, client.via, packets, meta);
                }
            }
        }
    }

    /// Answers a packet about `pair`; nothing at all when its sender does not know the secret.
    fn answer(&self, wire: &[u8], pair: &Pair, from: Client) {
        let Some(packet) = Packet::decode(wire, &pair.secret) else {
            return;
        };
        let reply = match packet.kind {
            Kind::Bind => Packet {
                kind: Kind::Challenge,
                cookie: self.cookies.cookie(from.address, &packet.pair, packet.generation),
                ..packet
            },
            Kind::Answer => {
                let proven =
                    self.cookies
                        .accepts(&packet.cookie, from.address, &packet.pair, packet.generation);
                if !proven || !self.pairs.bind(&packet.pair, from, packet.generation) {
                    return;
                }
                Packet {
                    kind: Kind::Bound,
                    ..packet
                }
            }
            Kind::Challenge | Kind::Bound => return,
        };
        let reply = reply.encode(&pair.secret);
        let meta = RecvMeta {
            stride: reply.len(),
            ..RecvMeta::default()
        };
        self.socket.send(from.address, from.via, &reply, &meta);
    }
}

/// Whether a packet has neither of QUIC's bits, and so is of the relays' own format or of none.
fn is_not_quic(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first & QUIC_BITS == 0)
}
