//! Moving packets between clients and agents.

use std::sync::Arc;

use jq_common::carrier::relay::{CookieKey, Kind, Packet};
use quinn_udp::RecvMeta;

use super::{
    batch::Batch,
    pairs::{Client, Pair, Pairs},
    socket::Socket,
};

/// QUIC's fixed bit and its long-header bit (RFC 9000, section 17): our own packets carry neither.
const QUIC_BITS: u8 = 0xc0;

/// What moves the packets of all pairs.
pub(super) struct Forwarder {
    /// Where clients send.
    pub(super) socket: Socket,
    pub(super) pairs: Pairs,
    pub(super) cookies: CookieKey,
}

impl Forwarder {
    /// Passes what clients send on to their agents, for ever.
    pub(super) async fn to_agents(&self) {
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
    pub(super) async fn to_client(&self, pair: &Arc<Pair>) {
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
