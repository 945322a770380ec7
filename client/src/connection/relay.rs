//! The client's side of the relays' handshake: proves to each that packets from this socket may pass.

use std::{io, net::SocketAddr, time::Duration};

use jq_common::{
    bootstrap::{PairId, RelaySecret},
    carrier::relay::{Kind, PACKET, Packet},
};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, timeout_at},
};

/// How long an answer is waited for before the packets are sent again. Shorter than QUIC waits for its own first answer:
/// what it then sends again is to pass.
const RETRY: Duration = Duration::from_millis(300);

/// A packet of the handshake as it is sent.
type Wire = [u8; PACKET];

/// Which relay of a chain did not let the packets through, and why.
#[derive(Debug, thiserror::Error)]
#[error("relay {index}: {source}")]
pub(super) struct ChainError {
    /// Its place in the chain, from 0.
    pub(super) index: usize,
    /// `TimedOut` when it does not answer; the socket's own.
    pub(super) source: io::Error,
}

/// What the last relay of a chain was sent, and is sent again until packets pass.
pub(super) struct Retransmit(Wire);

/// Binds `socket` to the pair of each relay in turn, the first of which listens at `address`, within `deadline` in all.
/// Whatever the socket sends there afterwards reaches the agent, unless the last packet that is sent here is lost or
/// overtaken: until something has come back, [`Retransmit::insist`].
///
/// That a relay is bound is not waited for, since what comes behind the proof passes: each costs one round trip, and
/// QUIC's first packet goes with the last proof.
///
/// A relay takes a bind only if its `generation` is higher than all that it saw of that pair before: the caller counts up
/// with every try for as long as it uses the pairs, over all its sockets. The last socket that was bound is the one that
/// the pairs serve.
///
/// # Errors
/// The first relay that does not answer. Those before it are bound.
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
    /// Sends it again and again, by the socket that was bound. Returns when the relay's host says that nobody listens at
    /// `address`.
    pub(super) async fn insist(&self, socket: &UdpSocket, address: SocketAddr) {
        loop {
            sleep(RETRY).await;
            let sent = socket.send_to(&self.0, address).await;
            // Any other error may pass, and QUIC's deadline is everybody's.
            if sent.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                return;
            }
        }
    }
}

/// Asks the relay of `bind` for its challenge, with the `proof` for the relay before it in front, until `deadline`.
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

/// The relay's challenge to `bind`; everything else that arrives is dropped.
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

    /// Answers for the pairs in `living`, as a chain of relays does for a client that sends to the first, until `wanted`
    /// of them are bound; each first packet of a kind is lost.
    async fn relays(socket: UdpSocket, living: Vec<PairId>, wanted: usize) {
        let key = CookieKey::new(&[2; 32]);
        let mut lost = Vec::new();
        let mut bound = 0;
        let mut wire = [0; 2048];
        while bound < wanted {
            let (length, from) = socket.recv_from(&mut wire).await.unwrap();
            let packet = Packet::decode(&wire[..length], &SECRET).unwrap();
            let (pair, generation) = (packet.pair, packet.generation);
            // Nothing passes a relay that is not bound.
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
            // An answer to somebody else's question comes before the right one.
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

    /// Binds, and insists until all are bound.
    async fn bound(living: &[u8], chain: &[u8], deadline: Duration) -> Result<(), ChainError> {
        let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = relay.local_addr().unwrap();
        let mut task = JoinSet::new();
        let living = living.iter().map(|&pair| [pair; 16]).collect();
        task.spawn(relays(relay, living, chain.len()));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let chain: Vec<_> = chain.iter().map(|&pair| ([pair; 16], SECRET)).collect();
        let retransmit = bind_chain(&client, address, &chain, 7, deadline).await?;
        let retransmit = retransmit.expect("a chain of some");
        let all_bound = async {
            tokio::select! {
                ended = task.join_next() => ended.unwrap().unwrap(),
                () = retransmit.insist(&client, address) => panic!("they are there"),
            }
        };
        timeout(deadline, all_bound)
            .await
            .expect("they are bound in time");
        Ok(())
    }

    #[tokio::test]
    async fn every_relay_of_a_chain_is_bound_although_packets_are_lost() {
        bound(&[1, 2], &[1, 2], Duration::from_secs(20)).await.unwrap();
    }

    #[tokio::test]
    async fn the_relay_that_does_not_answer_is_told() {
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
