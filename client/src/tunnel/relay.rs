//! The client's side of the relays' handshake: proves to each that packets from this socket may pass.

use std::{io, net::SocketAddr, time::Duration};

use jq_common::{
    bootstrap::{PairId, RelaySecret},
    carrier::relay::{Kind, PACKET, Packet},
};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

/// How long an answer is waited for before the packet is sent again.
const RETRY: Duration = Duration::from_millis(300);

/// Which relay of a chain did not let the packets through, and why.
#[derive(Debug, thiserror::Error)]
#[error("relay {index}: {source}")]
pub(super) struct ChainError {
    /// Its place in the chain, from 0.
    pub(super) index: usize,
    /// `TimedOut` when it does not answer; the socket's own.
    pub(super) source: io::Error,
}

/// Binds `socket` to the pair of each relay in turn, the first of which listens at `address`, within `deadline` in all.
/// Afterwards whatever the socket sends there reaches the agent.
///
/// A relay takes a bind only if its `generation` is higher than all that it saw of that pair before: the caller counts up
/// with every try for as long as it uses the pairs, over all its sockets. The last socket that was bound is the one that
/// the pairs serve.
///
/// # Errors
/// The first relay that cannot be bound. Those before it are.
pub(super) async fn bind_chain(
    socket: &UdpSocket,
    address: SocketAddr,
    chain: &[(PairId, RelaySecret)],
    generation: u64,
    deadline: Duration,
) -> Result<(), ChainError> {
    let deadline = Instant::now() + deadline;
    for (index, (pair, secret)) in chain.iter().enumerate() {
        bind(socket, address, *pair, secret, generation, deadline)
            .await
            .map_err(|source| ChainError { index, source })?;
    }
    Ok(())
}

async fn bind(
    socket: &UdpSocket,
    address: SocketAddr,
    pair: PairId,
    secret: &RelaySecret,
    generation: u64,
    deadline: Instant,
) -> io::Result<()> {
    let mut next = Packet {
        kind: Kind::Bind,
        pair,
        generation,
        cookie: [0; 32],
    };
    loop {
        socket.send_to(&next.encode(secret), address).await?;
        let wait = deadline.min(Instant::now() + RETRY);
        match timeout_at(wait, answer_to(&next, socket, address, secret)).await {
            Ok(answer) => {
                let answer = answer?;
                if answer.kind == Kind::Bound {
                    return Ok(());
                }
                next = Packet {
                    kind: Kind::Answer,
                    ..answer
                };
            }
            Err(_) if Instant::now() < deadline => {}
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// The relay's answer to `sent`; everything else that arrives is dropped.
async fn answer_to(
    sent: &Packet,
    socket: &UdpSocket,
    address: SocketAddr,
    secret: &RelaySecret,
) -> io::Result<Packet> {
    let wanted = if sent.kind == Kind::Bind {
        Kind::Challenge
    } else {
        Kind::Bound
    };
    let mut wire = [0; PACKET + 1];
    loop {
        let (length, from) = socket.recv_from(&mut wire).await?;
        if from.ip().to_canonical() != address.ip().to_canonical() || from.port() != address.port() {
            continue;
        }
        match Packet::decode(&wire[..length], secret) {
            Some(packet)
                if packet.kind == wanted
                    && packet.pair == sent.pair
                    && packet.generation == sent.generation =>
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
    use tokio::task::JoinSet;

    use super::*;

    const SECRET: RelaySecret = [1; 32];

    /// Answers for the pairs in `living`, as a chain of relays does for a client that sends to the first; each first
    /// packet of a kind is lost.
    async fn relays(socket: UdpSocket, living: Vec<PairId>) {
        let key = CookieKey::new(&[2; 32]);
        let mut lost = Vec::new();
        let mut wire = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut wire).await.unwrap();
            let packet = Packet::decode(&wire[..length], &SECRET).unwrap();
            let (pair, generation) = (packet.pair, packet.generation);
            if !living.contains(&pair) {
                continue;
            }
            if !lost.contains(&(pair, packet.kind)) {
                lost.push((pair, packet.kind));
                continue;
            }
            let (kind, cookie) = match packet.kind {
                Kind::Bind => (Kind::Challenge, key.cookie(from, &pair, generation)),
                Kind::Answer if key.accepts(&packet.cookie, from, &pair, generation) => {
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

    async fn bound(living: &[u8], chain: &[u8], deadline: Duration) -> Result<(), ChainError> {
        let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = relay.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(relays(relay, living.iter().map(|&pair| [pair; 16]).collect()));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let chain: Vec<_> = chain.iter().map(|&pair| ([pair; 16], SECRET)).collect();
        bind_chain(&client, address, &chain, 7, deadline).await
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
