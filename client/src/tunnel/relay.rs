//! The client's side of the relay's handshake: proves to the relay that packets from this socket may pass.

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

/// Binds `socket` to `pair` at the relay at `address`, within `deadline`. Afterwards whatever the socket sends there
/// reaches the agent.
///
/// # Errors
/// `TimedOut` when the relay does not answer; the socket's own.
pub(super) async fn bind(
    socket: &UdpSocket,
    address: SocketAddr,
    pair: PairId,
    secret: &RelaySecret,
    generation: u64,
    deadline: Duration,
) -> io::Result<()> {
    let deadline = Instant::now() + deadline;
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
