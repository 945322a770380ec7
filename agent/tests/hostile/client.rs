//! Clients that write their own frames: one that follows the protocol, and building blocks of the others.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use jq_common::{
    codec::{self, FrameError},
    identity::Identity,
    protocol::{
        capabilities::Capabilities,
        limits,
        session::{Attach, AttachReply, Control, Open, SessionId, StreamAck},
        stream::{Header, StreamHeader},
        target::Target,
    },
    quic,
    session::block::{self, BlockDecoder},
};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinSet, time::timeout};

use crate::{
    agent::{Address, Agent, PATIENCE},
    random::Random,
};

/// Time limit for an exchange; by then an idle connection has timed out.
const EXCHANGE: Duration = Duration::from_secs(30);

pub(crate) fn endpoint() -> Endpoint {
    quic::client_endpoint(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap()
}

/// Connects with a certificate that the agent knows.
pub(crate) async fn connect(endpoint: &Endpoint, agent: &Address, identity: &Identity) -> Connection {
    let connecting = quic::connect(endpoint, agent.udp(), identity, agent.0.agent).unwrap();
    timeout(PATIENCE, connecting).await.expect("an answer").unwrap()
}

/// A connection that is attached to a session.
pub(crate) struct Attached {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) receive: RecvStream,
}

/// Attaches to a session. None when it is refused.
pub(crate) async fn attach(
    connection: Connection,
    session: SessionId,
    generation: u64,
) -> Result<Option<Attached>, FrameError> {
    attach_as(connection, session, generation, Capabilities::OURS).await
}

/// Attaches to a session as a client with these capabilities. None when it is refused.
pub(crate) async fn attach_as(
    connection: Connection,
    session: SessionId,
    generation: u64,
    capabilities: Capabilities,
) -> Result<Option<Attached>, FrameError> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(std::io::Error::from)?;
    let attach = Attach {
        session,
        generation,
        keep_s: 24 * 3600,
        capabilities,
    };
    codec::write(&mut send, &attach, limits::CONTROL_FRAME).await?;
    let reply = codec::read_within(&mut receive, limits::CONTROL_FRAME, PATIENCE).await?;
    let AttachReply::Attached { .. } = reply else {
        return Ok(None);
    };
    loop {
        match codec::read_within(&mut receive, limits::CONTROL_FRAME, PATIENCE).await? {
            Control::Table { last: true, .. } => break,
            Control::Table { .. } => {}
            other => panic!("this is not a table: {other:?}"),
        }
    }
    Ok(Some(Attached {
        connection,
        send,
        receive,
    }))
}

/// An encoded header.
pub(crate) fn header(header: &StreamHeader) -> Header {
    Header::of(header).unwrap()
}

/// The frame that opens a stream to a port of the agent's host.
pub(crate) fn open(stream: u64, port: u16) -> Open {
    Open {
        stream,
        from: 0,
        received: 0,
        header: Some(header(&StreamHeader::forward(Target::host("127.0.0.1", port)))),
    }
}

/// Encodes `bytes` as a block of a stream.
pub(crate) fn block(bytes: &[u8]) -> Vec<u8> {
    match bytes.len() {
        0 => Vec::new(),
        length => [&block::plain(length as u32), bytes].concat(),
    }
}

/// Decodes the blocks in `wire`.
pub(crate) fn decode_blocks(wire: Vec<u8>) -> Vec<u8> {
    let (mut block_decoder, mut arrived) = (BlockDecoder::default(), [wire.into()].into());
    let mut all = Vec::new();
    while let Some(bytes) = block_decoder.next(&mut arrived).expect("blocks") {
        all.extend_from_slice(&bytes);
    }
    assert!(block_decoder.is_between_blocks());
    all
}

/// A server that returns what it receives.
pub(crate) struct Echo {
    pub(crate) port: u16,
    _serving: JoinSet<()>,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut tcp, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut read, mut write) = tcp.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    let _ = write.shutdown().await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            port,
            _serving: serving,
        }
    }
}

/// A client that follows the protocol.
pub(crate) struct Good {
    connection: Connection,
    control: SendStream,
    echo: Echo,
    next: u64,
    random: Random,
    exchanges: u64,
    /// The longest exchange.
    slowest: Duration,
    /// Number of exchanges that took longer than [`PATIENCE`].
    late: u64,
    _endpoint: Endpoint,
    _listening: JoinSet<()>,
}

impl Good {
    pub(crate) async fn start(agent: &Agent) -> Self {
        let identity = Identity::generate().unwrap();
        let address = agent.admit(&identity).await;
        let endpoint = endpoint();
        let connection = connect(&endpoint, &address, &identity).await;
        let attached = attach(connection, [1; 16], 1).await.unwrap();
        let Attached {
            connection,
            send: control,
            mut receive,
            ..
        } = attached.unwrap();
        let mut listening = JoinSet::new();
        // The agent's control frames do not matter here.
        listening.spawn(async move { while let Ok(Some(_)) = receive.read_chunk(usize::MAX, true).await {} });
        Self {
            connection,
            control,
            echo: Echo::start().await,
            next: 0,
            random: Random(1),
            exchanges: 0,
            slowest: Duration::ZERO,
            late: 0,
            _endpoint: endpoint,
            _listening: listening,
        }
    }

    /// Sends bytes on a new stream and receives the same bytes to its end.
    pub(crate) async fn exchange(&mut self) {
        let began = Instant::now();
        let (stream, sent) = (self.next, self.random.bytes(20_000));
        self.next += 1;
        let exchange = async {
            let (mut send, mut receive) = self.connection.open_bi().await.unwrap();
            let open = open(stream, self.echo.port);
            codec::write(&mut send, &open, limits::HEADER_FRAME)
                .await
                .unwrap();
            send.write_all(&block(&sent)).await.unwrap();
            send.finish().unwrap();
            let got = decode_blocks(receive.read_to_end(2 * sent.len() + 64).await.unwrap());
            assert!(got == sent, "{} bytes came back of {}", got.len(), sent.len());
            let acks = Control::Acks(vec![StreamAck {
                stream,
                delivered: got.len() as u64,
                ended: true,
            }]);
            codec::write(&mut self.control, &acks, limits::CONTROL_FRAME)
                .await
                .unwrap();
        };
        let done = timeout(EXCHANGE, exchange).await;
        assert!(
            done.is_ok(),
            "what was sent by stream {stream} did not come back within {EXCHANGE:?}; the round trip was {:?}, the slowest \
             exchange before took {:?}",
            self.connection.rtt(),
            self.slowest
        );
        let took = began.elapsed();
        self.exchanges += 1;
        self.slowest = self.slowest.max(took);
        self.late += u64::from(took > PATIENCE);
    }

    /// Exchanges for as long as `attack` runs, and a few times afterwards.
    pub(crate) async fn through<T: Send + 'static>(
        &mut self,
        attack: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let mut attacks = JoinSet::new();
        attacks.spawn(attack);
        let result = loop {
            self.exchange().await;
            if let Some(result) = attacks.try_join_next() {
                break result.unwrap();
            }
        };
        for _ in 0..5 {
            self.exchange().await;
        }
        // A machine that pauses for a while delays one exchange; an attack that delays others does so repeatedly.
        assert!(
            self.late <= 1,
            "{} of {} exchanges took longer than {PATIENCE:?}, the slowest {:?}",
            self.late,
            self.exchanges,
            self.slowest
        );
        result
    }
}
