//! Clients that are newer than the agent, and optional features of the protocol.

use bytes::Bytes;
use jq_common::{
    codec,
    identity::Identity,
    protocol::{
        capabilities::Capabilities,
        limits,
        session::{Control, Open},
        stream::{Header, Opened, ResetCode, StreamHeader},
        target::{Target, Transport},
        topics::{MOST_TOPICS, Topic, WorkloadState, WorkloadStatus},
    },
    session::block::BlockDecoder,
};
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;

use crate::{
    agent::{Agent, PATIENCE},
    client::{Attached, Echo, attach, attach_as, block, connect, endpoint, header},
};

/// An attached client, and the endpoint that keeps it connected.
async fn attached(agent: &Agent) -> (quinn::Endpoint, Attached) {
    let identity = Identity::generate().unwrap();
    let address = agent.admit(&identity).await;
    let endpoint = endpoint();
    let connection = connect(&endpoint, &address, &identity).await;
    let attached = attach(connection, [3; 16], 1).await.unwrap().unwrap();
    (endpoint, attached)
}

impl Attached {
    async fn say(&mut self, control: &Control) {
        codec::write(&mut self.send, control, limits::SESSION_FRAME)
            .await
            .unwrap();
    }

    async fn heard(&mut self) -> Control {
        let frame = codec::read_within(&mut self.receive, limits::SESSION_FRAME, PATIENCE);
        frame.await.unwrap()
    }

    /// Opens a stream with this header.
    async fn open(&self, stream: u64, header: Header) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.connection.open_bi().await.unwrap();
        let open = Open {
            stream,
            from: 0,
            received: 0,
            header: Some(header),
        };
        codec::write(&mut send, &open, limits::HEADER_FRAME)
            .await
            .unwrap();
        (send, receive)
    }

    /// Opens a stream with this header, and returns the code with which the agent resets it.
    async fn refused(&mut self, stream: u64, header: Header) -> ResetCode {
        let _opened = self.open(stream, header).await;
        loop {
            match self.heard().await {
                Control::Reset { stream: reset, code } => {
                    assert_eq!(reset, stream);
                    self.say(&Control::ResetAck { stream }).await;
                    return ResetCode::from_wire(code.into());
                }
                Control::Acks(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Checks that a new stream echoes data.
    async fn works(&self, stream: u64, echo: &Echo) {
        let forward = StreamHeader::forward(Target::host("127.0.0.1", echo.port));
        let (mut send, mut receive) = self.open(stream, header(&forward)).await;
        let sent = block(b"still here");
        send.write_all(&sent).await.unwrap();
        let mut got = vec![0; sent.len()];
        timeout(PATIENCE, receive.read_exact(&mut got))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(got, sent);
    }
}

/// The first `count` bytes that arrive on a stream.
async fn first_bytes(receive: &mut RecvStream, count: usize) -> Vec<u8> {
    let (mut decoder, mut arrived) = (BlockDecoder::default(), std::collections::VecDeque::new());
    let mut all = Vec::new();
    while all.len() < count {
        let chunk = timeout(PATIENCE, receive.read_chunk(usize::MAX, true));
        arrived.push_back(chunk.await.unwrap().unwrap().expect("more").bytes);
        while let Some(bytes) = decoder.next(&mut arrived).expect("blocks") {
            all.extend_from_slice(&bytes);
        }
    }
    all
}

fn json(text: &'static str) -> Header {
    Header::of_bytes(Bytes::from_static(text.as_bytes())).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_stream_of_a_newer_client_is_refused_as_unsupported_and_the_session_continues() {
    let mut agent = Agent::start();
    let echo = Echo::start().await;
    let (_endpoint, mut client) = attached(&agent).await;
    let udp = StreamHeader::forward(Target {
        transport: Transport::Udp,
        ..Target::host("127.0.0.1", 53)
    });
    let reserved = [
        udp,
        StreamHeader::Wait { forward: 1 },
        StreamHeader::Exec(Box::default()),
        StreamHeader::Datagrams {
            flow: 1,
            target: Target::workload(53),
        },
    ];
    let newer = [
        r#"{"teleport":{"to":"the moon"}}"#,
        r#"{"forward":{"target":{"scope":"cluster","address":{"port":1}}}}"#,
        r#"{"request":{"stop":{}}}"#,
        "7",
    ];
    let unsupported = reserved.iter().map(header).chain(newer.map(json));
    let mut next = 0;
    for header in unsupported {
        assert_eq!(
            client.refused(next, header).await,
            ResetCode::Unsupported,
            "{next}"
        );
        next += 1;
    }
    for broken in ["", "{", "\0", r#"{"forward":"#] {
        assert_eq!(
            client.refused(next, json(broken)).await,
            ResetCode::BadHeader,
            "{broken}"
        );
        next += 1;
    }
    client.works(next, &echo).await;
    agent.assert_healthy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_a_newer_client_on_the_control_stream_are_ignored() {
    let mut agent = Agent::start();
    let echo = Echo::start().await;
    let (_endpoint, mut client) = attached(&agent).await;
    for kind in 8..100_u8 {
        let body = [&[kind], [kind; 100].as_slice()].concat();
        client.send.write_all(&101_u32.to_be_bytes()).await.unwrap();
        client.send.write_all(&body).await.unwrap();
    }
    let topics = (0..MOST_TOPICS as u32).map(|number| Topic::Other(1000 + number));
    let topics = topics.collect();
    client.say(&Control::Subscribe { topics }).await;
    client.works(0, &echo).await;
    assert!(client.connection.close_reason().is_none());
    agent.assert_healthy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_subscribes_gets_updates_and_one_with_too_many_topics_is_refused() {
    let mut agent = Agent::start();
    let (_endpoint, mut client) = attached(&agent).await;
    let topics = vec![Topic::Gpus, Topic::Workload];
    client.say(&Control::Subscribe { topics }).await;
    match client.heard().await {
        Control::Update {
            topic: Topic::Workload,
            value,
        } => assert_eq!(value.read::<WorkloadStatus>().unwrap().state, WorkloadState::None),
        other => panic!("{other:?}"),
    }
    let topics = vec![Topic::Workload; MOST_TOPICS + 1];
    client.say(&Control::Subscribe { topics }).await;
    timeout(PATIENCE, client.connection.closed())
        .await
        .expect("the connection is not closed");
    agent.assert_healthy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_subscriptions_from_a_client_that_reads_nothing_use_no_memory() {
    let mut agent = Agent::start();
    let (_endpoint, mut client) = attached(&agent).await;
    let before = agent.memory();
    for round in 0..50_000 {
        let topics = match round % 2 {
            0 => vec![Topic::Workload],
            _ => vec![Topic::Other(round); MOST_TOPICS],
        };
        client.say(&Control::Subscribe { topics }).await;
    }
    let grown = agent.memory().saturating_sub(before);
    agent.assert_healthy();
    assert!(grown < 10_000_000, "memory grew by {} MB", grown / 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_requests_confirmation_gets_it_before_the_first_byte() {
    let mut agent = Agent::start();
    let echo = Echo::start().await;
    let (_endpoint, mut client) = attached(&agent).await;
    let to = |port| {
        header(&StreamHeader::Forward {
            target: Target::host("127.0.0.1", port),
            confirm: true,
        })
    };
    let opened = codec::encode(&Opened::default(), limits::REPLY_FRAME).unwrap();
    let (mut send, mut receive) = client.open(0, to(echo.port)).await;
    assert_eq!(first_bytes(&mut receive, opened.len()).await, opened);
    send.write_all(&block(b"hello")).await.unwrap();
    assert_eq!(first_bytes(&mut receive, 5).await, b"hello");

    // This port has no listener.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(client.refused(1, to(port)).await, ResetCode::Refused);
    agent.assert_healthy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_new_attachment_gets_the_status_again_unless_its_client_does_not_support_updates() {
    let mut agent = Agent::start();
    let identity = Identity::generate().unwrap();
    let address = agent.admit(&identity).await;
    let endpoint = endpoint();
    let again = async |generation, capabilities| {
        let connection = connect(&endpoint, &address, &identity).await;
        let attached = attach_as(connection, [3; 16], generation, capabilities).await;
        attached.unwrap().unwrap()
    };
    let mut client = again(1, Capabilities::OURS).await;
    let topics = vec![Topic::Workload];
    client.say(&Control::Subscribe { topics }).await;
    assert!(matches!(client.heard().await, Control::Update { .. }));
    let mut client = again(2, Capabilities::OURS).await;
    assert!(matches!(client.heard().await, Control::Update { .. }));
    let mut older = again(3, Capabilities::OURS.without(Capabilities::SUBSCRIBE)).await;
    older.say(&Control::Reset { stream: 77, code: 1 }).await;
    let answer = older.heard().await;
    assert!(matches!(answer, Control::ResetAck { stream: 77 }), "{answer:?}");
    agent.assert_healthy();
}
