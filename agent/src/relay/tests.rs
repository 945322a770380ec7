//! Relays, a client and an agent on this machine's loopback.

use std::net::{Ipv4Addr, SocketAddr};

use jq_common::{
    bootstrap::{PairId, RelayRequest, RelaySecret},
    carrier::relay::{Kind, PACKET, Packet},
};
use tokio::{net::UdpSocket, time::timeout};

use super::*;

/// Time limit for anything that must happen.
const SOON: Duration = Duration::from_secs(10);

const SECRET: RelaySecret = [1; 32];

/// A running relay, stopped at the end of its test.
struct Running {
    relay: Arc<Relay>,
    folder: RunDir,
    _base: tempfile::TempDir,
    _task: tokio::task::JoinSet<()>,
}

impl Running {
    fn start() -> Self {
        let base = tempfile::tempdir().unwrap();
        let folder = RunDir::at(base.path().join("relay")).unwrap();
        let relay = Arc::new(Relay::bind(&folder).unwrap());
        let mut task = tokio::task::JoinSet::new();
        let running = relay.clone();
        task.spawn(async move { running.join().await });
        Self {
            relay,
            folder,
            _base: base,
            _task: task,
        }
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.relay.shared.port).into()
    }

    async fn announce(&self, pair: PairId, agent: SocketAddr) -> BootstrapReply {
        let mut stream = self.folder.connect().await.unwrap();
        let secret = SECRET;
        let request = BootstrapRequest::Relay(RelayRequest { pair, secret, agent });
        codec::write(&mut stream, &request, limits::BOOTSTRAP_FRAME)
            .await
            .unwrap();
        codec::read_within(&mut stream, limits::BOOTSTRAP_FRAME, SOON)
            .await
            .unwrap()
    }
}

async fn socket() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut packet = vec![0; 2048];
    let (length, from) = timeout(SOON, socket.recv_from(&mut packet))
        .await
        .expect("a packet")
        .unwrap();
    packet.truncate(length);
    (packet, from)
}

/// Both steps of a bind; each answer is as long as its request.
async fn bind(client: &UdpSocket, relay: SocketAddr, pair: PairId, generation: u64) {
    let mut next = Packet {
        kind: Kind::Bind,
        pair,
        generation,
        cookie: [0; 32],
    };
    for (answer, kind) in [(Kind::Challenge, Kind::Answer), (Kind::Bound, Kind::Bound)] {
        client.send_to(&next.encode(&SECRET), relay).await.unwrap();
        let (wire, from) = receive(client).await;
        assert_eq!((wire.len(), from), (PACKET, relay));
        let packet = Packet::decode(&wire, &SECRET).unwrap();
        assert_eq!((packet.kind, packet.pair), (answer, pair));
        next = Packet { kind, ..packet };
    }
}

/// A packet such as QUIC sends, which a relay cannot read.
fn sealed(content: u8) -> Vec<u8> {
    vec![0x40 | (content & 0x3f); 1200]
}

#[tokio::test]
async fn a_chain_is_bound_relay_by_relay_over_one_socket_and_carries_both_ways() {
    let (first, second) = (Running::start(), Running::start());
    let (client, agent) = (socket().await, socket().await);
    second
        .announce([2; 16], agent.local_addr().unwrap())
        .await
        .unwrap();
    first.announce([1; 16], second.address()).await.unwrap();

    let bind_of_second = Packet {
        kind: Kind::Bind,
        pair: [2; 16],
        generation: 1,
        cookie: [0; 32],
    };
    client
        .send_to(&bind_of_second.encode(&SECRET), first.address())
        .await
        .unwrap();
    // A packet of a client that is not bound gets no further than the first relay: the next answer is that relay's own.
    bind(&client, first.address(), [1; 16], 1).await;
    // The second relay has no bound client yet, so this never arrives.
    client.send_to(&sealed(7), first.address()).await.unwrap();
    bind(&client, first.address(), [2; 16], 1).await;

    client.send_to(&sealed(8), first.address()).await.unwrap();
    let (packet, from) = receive(&agent).await;
    assert!(packet == sealed(8));
    agent.send_to(&sealed(9), from).await.unwrap();
    let (packet, from) = receive(&client).await;
    assert!(packet == sealed(9) && from == first.address());

    // The client moves to another port, as after a change of networks.
    let moved = socket().await;
    bind(&moved, first.address(), [1; 16], 2).await;
    bind(&moved, first.address(), [2; 16], 2).await;
    client.send_to(&sealed(10), first.address()).await.unwrap();
    moved.send_to(&sealed(11), first.address()).await.unwrap();
    assert!(
        receive(&agent).await.0 == sealed(11),
        "the old port is bound no more"
    );
}

#[tokio::test]
async fn a_pair_outlives_its_agent_and_works_again_when_it_is_back() {
    let relay = Running::start();
    let (client, agent) = (socket().await, socket().await);
    let address = agent.local_addr().unwrap();
    relay.announce([1; 16], address).await.unwrap();
    bind(&client, relay.address(), [1; 16], 1).await;
    drop(agent);
    for content in 0..10 {
        client.send_to(&sealed(content), relay.address()).await.unwrap();
    }
    // Bound again at the same generation, as after a lost answer: the pair still exists, and all earlier packets have
    // been handled.
    bind(&client, relay.address(), [1; 16], 1).await;
    let agent = UdpSocket::bind(address).await.unwrap();
    client.send_to(&sealed(20), relay.address()).await.unwrap();
    let (packet, from) = receive(&agent).await;
    assert!(packet == sealed(20));
    agent.send_to(&sealed(21), from).await.unwrap();
    assert!(receive(&client).await.0 == sealed(21));
}

#[tokio::test]
async fn a_bound_client_notices_nothing_of_a_second_announcement() {
    let relay = Running::start();
    let (client, agent, successor) = (socket().await, socket().await, socket().await);
    relay
        .announce([1; 16], agent.local_addr().unwrap())
        .await
        .unwrap();
    bind(&client, relay.address(), [1; 16], 1).await;
    for (at, content) in [(&agent, 1), (&successor, 2)] {
        relay.announce([1; 16], at.local_addr().unwrap()).await.unwrap();
        client.send_to(&sealed(content), relay.address()).await.unwrap();
        let (packet, from) = receive(at).await;
        assert!(packet == sealed(content));
        at.send_to(&sealed(content), from).await.unwrap();
        assert!(receive(&client).await.0 == sealed(content));
    }
}

#[tokio::test]
async fn a_relay_refuses_to_be_its_own_next_one() {
    let relay = Running::start();
    let refused = relay.announce([1; 16], relay.address()).await.unwrap_err();
    assert!(refused.why.contains("itself"), "{refused:?}");
}

#[tokio::test]
async fn a_cookie_is_of_no_use_to_another_address() {
    let relay = Running::start();
    let (client, thief, agent) = (socket().await, socket().await, socket().await);
    relay
        .announce([1; 16], agent.local_addr().unwrap())
        .await
        .unwrap();
    let request = Packet {
        kind: Kind::Bind,
        pair: [1; 16],
        generation: 1,
        cookie: [0; 32],
    };
    client
        .send_to(&request.encode(&SECRET), relay.address())
        .await
        .unwrap();
    let challenge = Packet::decode(&receive(&client).await.0, &SECRET).unwrap();
    let kind = Kind::Answer;
    let answer = Packet { kind, ..challenge }.encode(&SECRET);
    // The client's answer, taken on its way and sent from elsewhere.
    thief.send_to(&answer, relay.address()).await.unwrap();
    thief.send_to(&sealed(1), relay.address()).await.unwrap();
    client.send_to(&answer, relay.address()).await.unwrap();
    let (wire, _) = receive(&client).await;
    assert_eq!(Packet::decode(&wire, &SECRET).unwrap().kind, Kind::Bound);
    client.send_to(&sealed(2), relay.address()).await.unwrap();
    assert!(receive(&agent).await.0 == sealed(2), "the first that arrives");
}

#[tokio::test]
async fn through_a_relay_a_client_is_reached_by_its_agent_only() {
    let relay = Running::start();
    let (client, agent, stranger) = (socket().await, socket().await, socket().await);
    relay
        .announce([1; 16], agent.local_addr().unwrap())
        .await
        .unwrap();
    bind(&client, relay.address(), [1; 16], 1).await;
    client.send_to(&sealed(1), relay.address()).await.unwrap();
    let (_, upstream) = receive(&agent).await;
    stranger.send_to(&sealed(2), upstream).await.unwrap();
    agent.send_to(&sealed(3), upstream).await.unwrap();
    assert!(receive(&client).await.0 == sealed(3), "the first that arrives");
}
