//! Client side of the handshake with relays: proves to each that it may forward packets from this socket.

use std::{io, net::SocketAddr, time::Duration};

use jq_common::{
    bootstrap::{PairId, RelaySecret},
    carrier::relay::{Kind, PACKET, Packet},
};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, timeout_at},
};

/// Retransmission timeout of the handshake. Shorter than QUIC's initial timeout, so that the relays are bound when QUIC
/// retransmits its first packet.
const RETRY: Duration = Duration::from_millis(300);

/// An encoded handshake packet.
type Wire = [u8; PACKET];

/// Which relay of a chain failed, and why.
#[derive(Debug, thiserror::Error)]
#[error("relay {index}: {source}")]
pub(super) struct ChainError {
    /// Its index in the chain, from 0.
    pub(super) index: usize,
    /// `TimedOut` if it does not answer; else the error of the socket.
    pub(super) source: io::Error,
}

/// The last proof, to be retransmitted until the peer is heard.
pub(super) struct Retransmit(Wire);

/// Binds `socket` to the pair of each relay of `chain` in turn, within `deadline` in all. The first relay listens at
/// `address`. Packets that the socket sends there afterwards reach the agent, unless the last proof is lost or reordered:
/// run [`Retransmit::until_refused`] until the agent is heard.
///
/// Confirmations of relays are not awaited, because packets right behind a proof are forwarded: a relay costs one round
/// trip, and QUIC's first packet follows the last proof.
///
/// A relay accepts a bind only with a higher `generation` than it has seen for the pair: the caller increases it with every
/// attempt, over all its sockets. The pairs serve the socket that was bound last.
///
/// # Errors
/// The first relay that does not answer. The relays before it are bound.
pub(super) async fn bind_chain(
    socket: &UdpSocket,
    address: SocketAddr,
    chain: &[(PairId, RelaySecret)],
    generation: u64,
    deadline: Duration,
) -> Result<Option<Retransmit>, ChainError> {
    let deadline = Instant::now() + deadline;
    let mut proof = None;
    for (index, (pair, secret)) in chain.iter().enumerate() {
        let bind = Packet {
            kind: Kind::Bind,
            pair: *pair,
            generation,
            cookie: [0; 32],
        };
        let asked = async {
            let challenge = ask(socket, address, proof.as_ref(), &bind, secret, deadline).await?;
            let answer = Packet {
                kind: Kind::Answer,
                ..challenge
            };
            let answer = answer.encode(secret);
            if index + 1 == chain.len() {
                socket.send_to(&answer, address).await?;
            }
            Ok::<_, io::Error>(answer)
        };
        proof = Some(asked.await.map_err(|source| ChainError { index, source })?);
    }
    Ok(proof.map(Retransmit))
}

impl Retransmit {
    /// Retransmits the proof over the bound socket. Returns when the relay's host reports that the port is closed.
    pub(super) async fn until_refused(&self, socket: &UdpSocket, address: SocketAddr) {
        loop {
            sleep(RETRY).await;
            let sent = socket.send_to(&self.0, address).await;
            // Other errors may be temporary; the deadline of the QUIC handshake ends the attempt.
            if sent.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                return;
            }
        }
    }
}

/// Requests the challenge of the relay of `bind` until `deadline`; each request is preceded by the `proof` for the relay
/// before it.
async fn ask(
    socket: &UdpSocket,
    address: SocketAddr,
    proof: Option<&Wire>,
    bind: &Packet,
    secret: &RelaySecret,
    deadline: Instant,
) -> io::Result<Packet> {
    let wire = bind.encode(secret);
    loop {
        for packet in proof.into_iter().chain([&wire]) {
            socket.send_to(packet, address).await?;
        }
        let wait = deadline.min(Instant::now() + RETRY);
        match timeout_at(wait, challenge(bind, socket, address, secret)).await {
            Ok(challenge) => return challenge,
            Err(_) if Instant::now() < deadline => {}
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Waits for the challenge to `bind`, and drops all other packets.
async fn challenge(
    bind: &Packet,
    socket: &UdpSocket,
    address: SocketAddr,
    secret: &RelaySecret,
) -> io::Result<Packet> {
    let mut wire = [0; PACKET + 1];
    loop {
        let (length, from) = socket.recv_from(&mut wire).await?;
        if from.ip().to_canonical() != address.ip().to_canonical() || from.port() != address.port() {
            continue;
        }
        match Packet::decode(&wire[..length], secret) {
            Some(packet)
                if packet.kind == Kind::Challenge
                    && packet.pair == bind.pair
                    && packet.generation == bind.generation =>
            {
                return Ok(packet);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use jq_common::carrier::relay::CookieKey;
    use tokio::{task::JoinSet, time::timeout};

    use super::*;

    const SECRET: RelaySecret = [1; 32];

    /// Acts as a chain of relays with the pairs in `living`, until `wanted` of them are bound. Drops the first packet of
    /// each kind.
    async fn relays(socket: UdpSocket, living: Vec<PairId>, wanted: usize) {
        let key = CookieKey::new(&[2; 32]);
        let mut lost = Vec::new();
        let mut bound = 0;
        let mut wire = [0; 2048];
        while bound < wanted {
            let (length, from) = socket.recv_from(&mut wire).await.unwrap();
            let packet = Packet::decode(&wire[..length], &SECRET).unwrap();
            let (pair, generation) = (packet.pair, packet.generation);
            // A relay that is not bound forwards nothing.
            let Some(place) = living.iter().take(bound + 1).position(|living| *living == pair) else {
                continue;
            };
            if !lost.contains(&(pair, packet.kind)) {
                lost.push((pair, packet.kind));
                continue;
            }
            let (kind, cookie) = match packet.kind {
                Kind::Bind => (Kind::Challenge, key.cookie(from, &pair, generation)),
                Kind::Answer if key.accepts(&packet.cookie, from, &pair, generation) => {
                    bound = bound.max(place + 1);
                    (Kind::Bound, packet.cookie)
                }
                _ => continue,
            };
            // The answer to another bind comes before the right one.
            for generation in [generation + 1, generation] {
                let reply = Packet {
                    kind,
                    pair,
                    generation,
                    cookie,
                };
                socket.send_to(&reply.encode(&SECRET), from).await.unwrap();
            }
        }
    }

    /// Binds, and retransmits until all are bound.
    async fn bound(living: &[u8], chain: &[u8], deadline: Duration) -> Result<(), ChainError> {
        let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = relay.local_addr().unwrap();
        let mut task = JoinSet::new();
        let living = living.iter().map(|&pair| [pair; 16]).collect();
        task.spawn(relays(relay, living, chain.len()));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let chain: Vec<_> = chain.iter().map(|&pair| ([pair; 16], SECRET)).collect();
        let retransmit = bind_chain(&client, address, &chain, 7, deadline).await?;
        let retransmit = retransmit.expect("the chain is not empty");
        let all_bound = async {
            tokio::select! {
                ended = task.join_next() => ended.unwrap().unwrap(),
                () = retransmit.until_refused(&client, address) => panic!("the relays listen"),
            }
        };
        timeout(deadline, all_bound).await.expect("bound in time");
        Ok(())
    }

    #[tokio::test]
    async fn every_relay_of_a_chain_is_bound_although_packets_are_lost() {
        bound(&[1, 2], &[1, 2], Duration::from_secs(20)).await.unwrap();
    }

    #[tokio::test]
    async fn the_relay_that_does_not_answer_is_identified() {
        for (living, dead) in [(&[1, 2][..], 2), (&[1][..], 1), (&[][..], 0)] {
            let error = bound(living, &[1, 2, 3], Duration::from_secs(2))
                .await
                .unwrap_err();
            assert_eq!(
                (error.index, error.source.kind()),
                (dead, io::ErrorKind::TimedOut)
            );
        }
    }
}
