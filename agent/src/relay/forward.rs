//! Forwards packets between clients and agents.

use std::sync::Arc;

use jq_common::carrier::relay::{CookieKey, Kind, Packet};
use quinn_udp::RecvMeta;

use super::{
    batch::Batch,
    pairs::{Client, Pair, Pairs},
    socket::Socket,
};

/// QUIC's fixed bit and long-header bit (RFC 9000, section 17); the relay's own packets have neither.
const QUIC_BITS: u8 = 0xc0;

/// Forwards the packets of all pairs.
pub(super) struct Forwarder {
    /// The socket that clients send to.
    pub(super) socket: Socket,
    pub(super) pairs: Pairs,
    pub(super) cookies: CookieKey,
}

impl Forwarder {
    /// Forwards packets from clients to their agents, forever.
    pub(super) async fn to_agents(&self) {
        let mut batch = Batch::new();
        loop {
            for (packets, meta) in batch.receive(&self.socket).await {
                let each = packets.chunks(meta.stride.max(1));
                if each.clone().any(is_not_quic) {
                    each.for_each(|packet| self.handle(packet, meta));
                } else {
                    self.forward(packets, meta);
                }
            }
        }
    }

    /// Handles a packet that is not QUIC: answers it if it belongs to a pair of this relay, and otherwise forwards it,
    /// since it may be for the next relay.
    fn handle(&self, packet: &[u8], meta: &RecvMeta) {
        if !is_not_quic(packet) {
            return self.forward(packet, meta);
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
            None => self.forward(packet, meta),
        }
    }

    /// Forwards packets of a bound client, and drops all others.
    fn forward(&self, packets: &[u8], meta: &RecvMeta) {
        if let Some(pair) = self.pairs.by_client(meta.addr) {
            pair.touch();
            pair.upstream.send(pair.agent, None, packets, meta);
        }
    }

    /// Forwards packets from the agent of `pair` to its client, forever.
    pub(super) async fn to_client(&self, pair: &Arc<Pair>) {
        let mut batch = Batch::new();
        loop {
            for (packets, meta) in batch.receive(&pair.upstream).await {
                if let Some(client) = pair.client() {
                    pair.touch();
                    self.socket.send(client.address, client.via, packets, meta);
                }
            }
        }
    }

    /// Answers a packet of the relay protocol. A sender that does not know the secret gets no answer.
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

/// Whether a packet has neither of QUIC's bits, and so may be of the relay protocol.
fn is_not_quic(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first & QUIC_BITS == 0)
}
