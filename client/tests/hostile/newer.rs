//! Agents that are newer or older than the client, and agents that send endless updates.

use jq_client::resumable_session::{Connected, Detached, Session};
use jq_common::{
    codec,
    protocol::{
        capabilities::Capabilities,
        limits,
        session::Control,
        stream::{Opened, ResetCode, StreamHeader},
        target::Target,
        topics::{Topic, Value, WorkloadState, WorkloadStatus},
    },
    session::block,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use crate::{
    host::{PATIENCE, Pair, memory},
    hostile::works,
};

fn update(engine: &str) -> Control {
    let status = WorkloadStatus {
        state: WorkloadState::Running,
        engine: engine.to_owned(),
        ..WorkloadStatus::default()
    };
    Control::Update {
        topic: Topic::Workload,
        value: Value::of(&status).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_a_newer_agent_on_the_control_stream_are_ignored() {
    let pair = Pair::new();
    let (_talk, mut host) = pair.carry(1, Vec::new()).await.unwrap();
    for kind in 8..100_u8 {
        let body = [&[kind], [kind; 100].as_slice()].concat();
        host.send.write_all(&101_u32.to_be_bytes()).await.unwrap();
        host.send.write_all(&body).await.unwrap();
    }
    let unknown = Control::Update {
        topic: Topic::Other(77),
        value: Value::of_bytes("{".into()).unwrap(),
    };
    host.say(&unknown).await.unwrap();
    works(&pair, &mut host).await;
    assert!(host.connection.close_reason().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_is_too_long_ends_its_connection() {
    let pair = Pair::new();
    let (mut talk, mut host) = pair.carry(1, Vec::new()).await.unwrap();
    works(&pair, &mut host).await;
    let length = limits::UPDATE_VALUE + 1;
    // Kind, topic, and the length as a varint.
    let head = [
        7,
        1,
        (length & 0x7f) as u8 | 0x80,
        (length >> 7 & 0x7f) as u8 | 0x80,
        (length >> 14) as u8,
    ];
    let body = [head.as_slice(), vec![b' '; length].as_slice()].concat();
    host.send
        .write_all(&(body.len() as u32).to_be_bytes())
        .await
        .unwrap();
    host.send.write_all(&body).await.unwrap();
    let ended = talk.ended().await;
    assert!(matches!(ended, Some(Detached::Lost(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_endless_updates_only_the_newest_is_kept_in_memory() {
    let pair = Pair::new();
    let (_talk, mut host) = pair.carry(1, Vec::new()).await.unwrap();
    works(&pair, &mut host).await;
    let mut seen = pair.session.subscriptions().workload();
    let before = memory();
    let long = "x".repeat(limits::UPDATE_VALUE - 100);
    for _ in 0..2000 {
        host.say(&update(&long)).await.unwrap();
    }
    host.say(&update("the newest")).await.unwrap();
    let newest = seen.wait_for(|status| {
        status
            .as_ref()
            .is_some_and(|status| status.engine == "the newest")
    });
    timeout(PATIENCE, newest)
        .await
        .expect("the newest update does not arrive")
        .unwrap();
    let grown = memory().saturating_sub(before);
    // All of them take 65 MB. The windows of both ends of the connection, which are in this process, may be full.
    assert!(grown < 50_000_000, "memory grew by {} MB", grown / 1_000_000);
    works(&pair, &mut host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_agents_that_support_subscriptions_receive_one() {
    let pair = Pair::new();
    for generation in 0..2 {
        let (_talk, mut host) = pair.carry(1, Vec::new()).await.unwrap();
        let heard = codec::read_within::<Control>(&mut host.receive, limits::SESSION_FRAME, PATIENCE);
        let heard = heard.await.unwrap();
        assert!(
            matches!(&heard, Control::Subscribe { topics } if topics.contains(&Topic::Workload)),
            "{generation}: {heard:?}"
        );
    }
    let older = Capabilities::OURS.without(Capabilities::SUBSCRIBE);
    let (_talk, mut host) = pair.carry_as(older, 1, Vec::new()).await.unwrap();
    host.say(&Control::Reset { stream: 77, code: 1 }).await.unwrap();
    let heard = codec::read_within::<Control>(&mut host.receive, limits::SESSION_FRAME, PATIENCE);
    let heard = heard.await.unwrap();
    assert!(matches!(heard, Control::ResetAck { stream: 77 }), "{heard:?}");
    assert_eq!(*pair.session.subscriptions().workload().borrow(), None);
}

/// Connects to `target` through the session, while `host` acts as the agent.
async fn connected(session: &Session, host: impl AsyncFnOnce()) -> Result<Connected, ResetCode> {
    let both = async { tokio::join!(session.connect(Target::host("h", 1)), host()).0 };
    timeout(PATIENCE, both).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_with_confirmation_is_open_once_the_agent_confirms_it_and_loses_no_byte() {
    let pair = Pair::new();
    let (_talk, host) = pair.carry(1, Vec::new()).await.unwrap();
    let opened = codec::encode(&Opened::default(), limits::REPLY_FRAME).unwrap();
    for pieces in [1, 3, 100] {
        let mut streams = None;
        let first = [opened.as_slice(), b"early"].concat();
        let connecting = connected(&pair.session, async || {
            let (open, mut send, receive) = host.opened().await.expect("a stream");
            let header: StreamHeader = open.header.unwrap().read().unwrap();
            assert!(matches!(header, StreamHeader::Forward { confirm: true, .. }));
            for piece in first.chunks(pieces) {
                let wire = [&block::plain(piece.len() as u32), piece].concat();
                send.write_all(&wire).await.unwrap();
            }
            streams = Some((send, receive));
        });
        let connected = connecting.await.expect("it is open");
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let exchange = async {
            let mut got = [0; 5];
            ours.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"early");
            ours.write_all(b"more").await.unwrap();
            let (_send, mut receive) = streams.unwrap();
            let mut got = vec![0; block::plain(4).len() + 4];
            receive.read_exact(&mut got).await.unwrap();
            assert!(got.ends_with(b"more"));
        };
        let exchange = timeout(PATIENCE, exchange);
        tokio::select! {
            ended = connected.proxy(theirs) => panic!("{ended:?}"),
            done = exchange => done.expect("in time"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_with_confirmation_reports_why_it_failed() {
    let pair = Pair::new();
    let (_talk, host) = pair.carry(1, Vec::new()).await.unwrap();
    let refused = connected(&pair.session, async || {
        let (_, mut send, _receive) = host.opened().await.expect("a stream");
        send.reset(ResetCode::Refused.to_wire()).unwrap();
    });
    assert_eq!(refused.await.err(), Some(ResetCode::Refused));
    let nonsense = connected(&pair.session, async || {
        let (_, mut send, _receive) = host.opened().await.expect("a stream");
        let bytes = [0xff; 100];
        let wire = [&block::plain(100), bytes.as_slice()].concat();
        send.write_all(&wire).await.unwrap();
    });
    assert_eq!(nonsense.await.err(), Some(ResetCode::ProtocolViolation));
    let older = Capabilities::OURS.without(Capabilities::OPENED);
    let (_talk, _host) = pair.carry_as(older, 1, Vec::new()).await.unwrap();
    let unsupported = connected(&pair.session, async || {});
    assert_eq!(unsupported.await.err(), Some(ResetCode::Unsupported));
}
