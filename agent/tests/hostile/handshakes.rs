//! Unknown clients at the agent's port.

use std::{
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use jq_common::{
    carrier::udp::UdpCarrier,
    identity::Identity,
    quic::{self, CarrierKind},
};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    agent::{Agent, PATIENCE},
    client::{Good, attach, connect, endpoint},
    random::Random,
};

/// A socket that drops the agent's packets, or all except Retry, which demands proof of an address (RFC 9000, section
/// 17.2.5).
#[derive(Debug)]
struct DroppingSocket {
    socket: Arc<UdpCarrier>,
    retries: bool,
    answered: AtomicBool,
}

impl AsyncUdpSocket for DroppingSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.poll_recv(cx, &mut bufs[..1], &mut meta[..1]) {
                Poll::Ready(Ok(_)) if self.retries && bufs[0][0] & 0xf0 == 0xf0 => {
                    self.answered.store(true, Ordering::Relaxed);
                    return Poll::Ready(Ok(1));
                }
                Poll::Ready(Ok(_)) => {}
                other => return other,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// An endpoint of an unknown client whose handshakes never complete, and its socket.
fn endpoint_without_replies(retries: bool) -> (quinn::Endpoint, Arc<DroppingSocket>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let socket = Arc::new(DroppingSocket {
        socket: UdpCarrier::new(socket).unwrap(),
        retries,
        answered: AtomicBool::new(false),
    });
    let endpoint = quic::client_endpoint_on(socket.clone(), CarrierKind::Udp);
    (endpoint.unwrap(), socket)
}

/// Begins many handshakes. Returns whether the agent demanded proof of the address, where that gets through.
async fn flood(agent: &crate::agent::Address, retries: bool, count: usize) -> bool {
    let stranger = Identity::generate().unwrap();
    let (endpoint, socket) = endpoint_without_replies(retries);
    let mut handshakes = JoinSet::new();
    for _ in 0..count {
        let connecting = quic::connect(&endpoint, agent.udp(), &stranger, agent.0.agent).unwrap();
        handshakes.spawn(timeout(Duration::from_secs(3), connecting));
    }
    handshakes.join_all().await;
    socket.answered.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_clients_are_refused_and_leave_nothing_behind() {
    let mut agent = Agent::start();
    let mut good = Good::start(&agent).await;
    let address = agent.admit(&Identity::generate().unwrap()).await;
    let descriptors = agent.descriptors();
    good.through(async move {
        let endpoint = endpoint();
        for _ in 0..200 {
            let stranger = Identity::generate().unwrap();
            let connecting = quic::connect(&endpoint, address.udp(), &stranger, address.0.agent).unwrap();
            if let Ok(connection) = timeout(PATIENCE, connecting).await.unwrap() {
                // A client's own side of the handshake completes before the agent has verified its certificate.
                let attached = attach(connection, [1; 16], 100).await;
                assert!(attached.is_err(), "a stranger was let in");
            }
        }
    })
    .await;
    agent.assert_healthy();
    assert!(agent.descriptors() <= descriptors + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arbitrary_packets_have_no_effect() {
    let mut agent = Agent::start();
    let mut good = Good::start(&agent).await;
    let address = agent.admit(&Identity::generate().unwrap()).await;
    good.through(async move {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let random = &mut Random(3);
        for _ in 0..20_000 {
            let mut packet = random.bytes(1400);
            if let Some(first) = packet.first_mut()
                && random.below(2) == 0
            {
                // The start of an Initial packet of version 1.
                *first = 0xc0 | (*first & 0x0f);
                for (byte, version) in packet.iter_mut().skip(1).zip([0, 0, 0, 1, 8]) {
                    *byte = version;
                }
            }
            let _ = socket.send_to(&packet, address.udp());
            tokio::task::yield_now().await;
        }
    })
    .await;
    agent.assert_healthy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn incomplete_handshakes_do_not_delay_an_admitted_client() {
    for retries in [false, true] {
        let mut agent = Agent::start();
        let mut good = Good::start(&agent).await;
        let identity = Identity::generate().unwrap();
        let address = agent.admit(&identity).await;
        let flooded = address.clone();
        good.through(async move {
            let mut attack = JoinSet::new();
            attack.spawn(async move { flood(&flooded, retries, 500).await });
            // An admitted client connects once the flood has started.
            tokio::task::yield_now().await;
            let endpoint = endpoint();
            let connection = connect(&endpoint, &address, &identity).await;
            assert!(attach(connection, [1; 16], 1).await.unwrap().is_some());
            let demanded = attack.join_all().await;
            assert_eq!(demanded, [retries], "proof of an address, under pressure");
        })
        .await;
        agent.assert_healthy();
    }
}
