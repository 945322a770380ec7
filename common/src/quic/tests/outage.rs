//! Two ends that both sent into an outage.

use tokio::{
    net::UdpSocket,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::*;

/// Bytes that each end sends, and bytes that pass in all before the outage: both ends have much left to send.
const BULK: usize = 16 * 1024 * 1024;
const BEFORE: usize = 4 * 1024 * 1024;

/// The interval of probes doubles: so long after one, the next is far away.
const FAR: Duration = Duration::from_millis(220);

/// An acknowledgement of a received packet arrives within this.
const SOON: Duration = Duration::from_millis(300);

/// The packets of a probe are closer than this, and the packet that crosses it may be this late.
const MEETS: Duration = Duration::from_millis(4);

/// Attempts: the first probes get no extra packet, and on a busy machine the crossing packet may be late.
const TRIES: usize = 4;

/// Forwards packets between a client and an agent.
struct Middle {
    near: UdpSocket,
    far: UdpSocket,
    agent: SocketAddr,
    client: Option<SocketAddr>,
    packet: Vec<u8>,
    /// The agent's last packet.
    held_back: Option<Vec<u8>>,
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Agent,
}

impl Middle {
    async fn to(agent: SocketAddr) -> Self {
        Self {
            near: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            far: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            agent,
            client: None,
            packet: Vec::new(),
            held_back: None,
        }
    }

    /// Receives the next packet into `packet`.
    async fn next(&mut self) -> Side {
        let (mut near, mut far) = ([0; 2048], [0; 2048]);
        tokio::select! {
            Ok((length, client)) = self.near.recv_from(&mut near) => {
                self.client = Some(client);
                self.packet = near[..length].to_vec();
                Side::Client
            }
            Ok((length, _)) = self.far.recv_from(&mut far) => {
                self.packet = far[..length].to_vec();
                self.held_back = Some(self.packet.clone());
                Side::Agent
            }
        }
    }

    /// Forwards nothing. Returns when the client has just sent a probe, long after its last, and the agent before it.
    async fn rare_probe(&mut self) {
        let mut probed = Instant::now();
        loop {
            match self.next().await {
                Side::Agent => {}
                Side::Client if probed.elapsed() > FAR && self.held_back.is_some() => break,
                Side::Client => probed = Instant::now(),
            }
        }
        while timeout(MEETS, self.next()).await.is_ok() {}
    }

    async fn forward(&self, from: Side) {
        match from {
            Side::Client => self.far.send_to(&self.packet, self.agent).await.unwrap(),
            Side::Agent => self
                .near
                .send_to(&self.packet, self.client.unwrap())
                .await
                .unwrap(),
        };
    }
}

/// Sends and receives [`BULK`] bytes.
async fn bulk(mut send: quinn::SendStream, mut receive: quinn::RecvStream) {
    let sending = async {
        send.write_all(&vec![7; BULK]).await.unwrap();
        send.finish().unwrap();
        send.stopped().await.unwrap();
    };
    let receiving = async { receive.read_to_end(BULK).await.unwrap().len() };
    assert_eq!(tokio::join!(sending, receiving).1, BULK);
}

#[tokio::test]
async fn probes_that_cross_after_an_outage_are_acknowledged_at_once() {
    let pair = pair();
    pair.allowed.allow(pair.client_identity.fingerprint());
    let mut middle = Middle::to(pair.agent.local_addr().unwrap()).await;
    let connecting = connect(
        &pair.client,
        middle.near.local_addr().unwrap(),
        &pair.client_identity,
        pair.agent_identity.fingerprint(),
    )
    .unwrap();
    let mut ends = JoinSet::new();
    ends.spawn(async move {
        let connection = connecting.await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        bulk(send, receive).await;
        connection.closed().await;
    });
    ends.spawn(async move {
        let connection = pair.agent.accept().await.unwrap().await.unwrap();
        let (send, receive) = connection.accept_bi().await.unwrap();
        bulk(send, receive).await;
        connection.close(VarInt::from_u32(0), b"");
        pair.agent.wait_idle().await;
    });

    let begin = async {
        let mut passed = 0;
        while passed < BEFORE {
            let from = middle.next().await;
            passed += middle.packet.len();
            middle.forward(from).await;
        }
    };
    timeout(Duration::from_secs(30), begin).await.unwrap();

    // Nothing passes until probes are rare. Then one of the agent's does, when the client has just sent its own.
    let (mut answered, mut tries) = (false, 0);
    while !answered && tries < TRIES {
        tries += 1;
        timeout(Duration::from_secs(20), middle.rare_probe())
            .await
            .unwrap();
        middle.packet = middle.held_back.take().unwrap();
        middle.forward(Side::Agent).await;
        let answer = async { while !matches!(middle.next().await, Side::Client) {} };
        answered = timeout(SOON, answer).await.is_ok();
    }
    #[expect(clippy::print_stdout, reason = "shown when the test fails")]
    {
        println!("the client acknowledged probe {tries} of {TRIES}");
    }
    assert!(answered, "the client acknowledges one of {TRIES} probes");

    let complete = async {
        while !ends.is_empty() {
            tokio::select! {
                from = middle.next() => middle.forward(from).await,
                Some(ended) = ends.join_next() => ended.unwrap(),
            }
        }
    };
    timeout(Duration::from_secs(60), complete).await.unwrap();
}
