//! Attacks by a hostile agent, and their effect on the client.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use jq_client::resumable_session::{AttachError, Detached};
use jq_common::{
    codec,
    protocol::{
        capabilities::Capabilities,
        limits,
        session::{AttachReply, Control, Entry, StreamAck},
    },
};
use quinn::VarInt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::timeout,
};

use crate::{
    host::{ATTACH, Host, PATIENCE, Pair, Program, memory},
    random::Random,
};

impl Random {
    fn entry(&mut self) -> Entry {
        Entry {
            stream: self.below(12),
            delivered: self.number(),
            received: self.number(),
            ended: self.below(3) == 0,
            reset: (self.below(6) == 0).then(|| self.next() as u32),
        }
    }

    fn control(&mut self) -> Control {
        let stream = self.below(12);
        match self.below(40) {
            0 => Control::Restarting,
            1 => Control::Table {
                entries: vec![self.entry()],
                last: true,
            },
            2..10 => Control::Reset {
                stream,
                code: self.next() as u32,
            },
            10..15 => Control::ResetAck { stream },
            15..20 => Control::Forgotten { stream },
            _ => Control::Acks(
                (0..self.below(4))
                    .map(|_| StreamAck {
                        stream: self.below(12),
                        delivered: self.number(),
                        ended: self.below(4) == 0,
                    })
                    .collect(),
            ),
        }
    }
}

/// Sends data on a new stream, and expects all of it back.
pub(crate) async fn works(pair: &Pair, host: &mut Host) {
    let exchange = async {
        let mut program = Program::connect(&pair.session).await;
        program.tcp.write_all(b"hello").await.unwrap();
        program.tcp.shutdown().await.unwrap();
        let mut got = Vec::new();
        tokio::join!(host.echo(), async {
            program.tcp.read_to_end(&mut got).await.unwrap();
        });
        assert_eq!(got, b"hello");
    };
    timeout(PATIENCE, exchange).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attachment_that_a_newer_one_has_overtaken_changes_nothing() {
    let pair = Pair::new();
    let overtaken = pair.attach(Capabilities::OURS, 2, Vec::new()).await.unwrap();
    let (_talk, mut host) = pair.carry(1, Vec::new()).await.unwrap();
    works(&pair, &mut host).await;
    assert!(pair.session.install(overtaken.0).is_none());
    works(&pair, &mut host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_attach_without_an_answer_times_out() {
    for way in 0..5 {
        let pair = Pair::new();
        let (client, agent) = pair.connect().await;
        let mut attacks = JoinSet::new();
        attacks.spawn(async move {
            let mut host = Host::begin(agent).await;
            let attached = AttachReply::Attached {
                boot: [1; 16],
                epoch: [1; 16],
                capabilities: Capabilities::OURS,
            };
            if way > 0 {
                let _ = codec::write(&mut host.send, &attached, limits::CONTROL_FRAME).await;
            }
            let entry = Random(1).entry();
            loop {
                let entries = match way {
                    // The same frame repeatedly, no frame, or an endless number of frames.
                    1 => vec![entry; 1000],
                    2 => Vec::new(),
                    3 => (0..1000)
                        .map(|stream| Entry {
                            stream: u64::MAX - stream,
                            ..entry
                        })
                        .collect(),
                    _ => break,
                };
                let frame = Control::Table { entries, last: false };
                if host.say(&frame).await.is_none() {
                    return;
                }
                // The agent runs in this process too, and must not starve the client.
                tokio::task::yield_now().await;
            }
            if way == 4 {
                let _ = host.send.write_all(&[0, 3, 0, 0]).await;
            }
            host.connection.closed().await;
        });
        let (began, before) = (Instant::now(), memory());
        // In a separate task, because a busy loop could not be cancelled here.
        let (session, mut attaching) = (pair.session.clone(), JoinSet::new());
        attaching.spawn(async move { session.attach(client, ATTACH).await });
        let attached = timeout(2 * ATTACH, attaching.join_next()).await;
        let attached = attached
            .unwrap_or_else(|_| panic!("{way}: the attach does not end"))
            .unwrap()
            .unwrap();
        assert!(matches!(attached, Err(AttachError::Frame(_))), "{way}");
        assert!(
            began.elapsed() < ATTACH + Duration::from_secs(1),
            "{way}: {:?}",
            began.elapsed()
        );
        assert!(memory() < before + 100_000_000, "{way}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_sent_before_a_failed_first_attach_are_sent_again() {
    let pair = Pair::new();
    let mut program = Program::connect(&pair.session).await;
    program.tcp.write_all(b"hello").await.unwrap();
    program.tcp.shutdown().await.unwrap();
    let (client, agent) = pair.connect().await;
    let silent = async {
        let host = Host::begin(agent).await;
        let (open, _send, _receive) = host.opened().await.expect("a stream");
        assert!(open.header.is_some() && open.from == 0);
        host.connection.closed().await;
    };
    let both = async { tokio::join!(pair.session.attach(client, Duration::from_millis(500)), silent) };
    let (attached, ()) = timeout(PATIENCE, both)
        .await
        .expect("the attach ends and the connection is closed");
    assert!(attached.is_err());

    let (_talk, host) = pair.carry(1, Vec::new()).await.unwrap();
    let mut got = Vec::new();
    let answered = async {
        tokio::join!(host.echo(), async {
            program.tcp.read_to_end(&mut got).await.unwrap();
        })
    };
    timeout(PATIENCE, answered).await.expect("in time");
    assert_eq!(got, b"hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_beginning_of_the_session_claims_to_know_of_a_stream_is_not_believed() {
    let pair = Pair::new();
    let (_talk, host) = pair.carry(1, Vec::new()).await.unwrap();
    let mut program = Program::connect(&pair.session).await;
    program.tcp.write_all(b"hello").await.unwrap();
    let (open, _send, _receive) = host.opened().await.expect("a stream");
    let same = Entry {
        stream: open.stream,
        delivered: 5,
        received: 5,
        ended: false,
        reset: None,
    };
    let (_talk, _host) = pair.carry(2, vec![same]).await.unwrap();
    let ended = program.ended().await;
    assert!(matches!(ended, Some(Err(_))), "{ended:?}");
    let read = timeout(PATIENCE, program.tcp.read_to_end(&mut Vec::new())).await;
    assert_eq!(read.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_can_open_no_stream_to_the_client() {
    let pair = Pair::new();
    let (_talk, mut host) = pair.carry(1, Vec::new()).await.unwrap();
    let connection = host.connection.clone();
    let opened = async {
        tokio::select! {
            _ = connection.open_bi() => {}
            _ = connection.open_uni() => {}
        }
    };
    tokio::select! {
        () = opened => panic!("the client accepts streams"),
        () = works(&pair, &mut host) => {}
    }
    assert!(connection.send_datagram(b"x".as_slice().into()).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_stream_that_breaks_ends_its_connection() {
    for way in 0..5 {
        let pair = Pair::new();
        let (mut talk, mut host) = pair.carry(1, Vec::new()).await.unwrap();
        works(&pair, &mut host).await;
        match way {
            0 => host.send.reset(VarInt::from_u32(1)).unwrap(),
            1 => host.send.finish().unwrap(),
            2 => {
                host.send.write_all(&[0, 0]).await.unwrap();
                host.send.finish().unwrap();
            }
            3 => host.receive.stop(VarInt::from_u32(1)).unwrap(),
            _ => host.send.write_all(&[0xff; 4]).await.unwrap(),
        }
        if way == 3 {
            // The client notices it when it sends the next message.
            let _ = timeout(Duration::from_secs(1), works(&pair, &mut host)).await;
        }
        let ended = talk.ended().await;
        assert!(matches!(ended, Some(Detached::Lost(_))), "{way}: {ended:?}");
        let (_talk, mut host) = pair.carry(1, Vec::new()).await.unwrap();
        works(&pair, &mut host).await;
    }
}

/// Sends random frames on the control stream and on the streams that the client opens.
async fn send_random_frames(mut host: Host, mut random: Random) {
    let mut held = Vec::new();
    for _ in 0..150 {
        if random.below(3) > 0 {
            let control = random.control();
            if host.say(&control).await.is_none() {
                return;
            }
            continue;
        }
        let opened = timeout(Duration::from_millis(5), host.opened()).await;
        let Ok(Some((_, mut send, mut receive))) = opened else {
            continue;
        };
        let bytes = vec![7; random.below(100_000) as usize];
        let _ = timeout(Duration::from_millis(50), send.write_all(&bytes)).await;
        match random.below(5) {
            0 => drop(send.reset(VarInt::from_u32(random.below(12) as u32))),
            1 => drop(send.finish()),
            2 => drop(receive.stop(VarInt::from_u32(random.below(12) as u32))),
            _ => held.push((send, receive)),
        }
    }
    match random.below(3) {
        0 => drop(host.send.reset(VarInt::from_u32(1))),
        1 => drop(host.send.write_all(&[1, 2, 3]).await),
        _ => {}
    }
    host.connection
        .close(VarInt::from_u32(random.below(8) as u32), b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_frames_affect_at_most_the_streams_that_they_name() {
    let before = memory();
    for seed in 0..30 {
        let pair = Pair::new();
        let mut random = Random(seed);
        let mut programs = JoinSet::new();
        for _ in 0..4 {
            let table = (0..random.below(5)).map(|_| random.entry()).collect();
            // The table may be invalid: then the attach fails, without further effect.
            let Ok((mut talk, host)) = pair.carry(random.below(2) as u8, table).await else {
                continue;
            };
            for _ in 0..3 {
                let mut program = Program::connect(&pair.session).await;
                programs.spawn(async move {
                    let (mut read, mut write) = program.tcp.split();
                    let mut sink = tokio::io::sink();
                    let read = tokio::io::copy(&mut read, &mut sink);
                    let _ = tokio::join!(write.write_all(&[1; 30_000]), read);
                    let _ = program.tcp.shutdown().await;
                    program.ended().await
                });
            }
            send_random_frames(host, Random(random.next())).await;
            assert!(
                talk.ended().await.is_some(),
                "seed {seed}: the session continues without a connection"
            );
        }
        let (talk, mut host) = pair.carry(2, Vec::new()).await.unwrap();
        while let Ok(Some((_, mut send, mut receive))) =
            timeout(Duration::from_millis(50), host.opened()).await
        {
            let _ = send.reset(VarInt::from_u32(1));
            let _ = receive.stop(VarInt::from_u32(1));
        }
        works(&pair, &mut host).await;
        drop(talk);
        timeout(PATIENCE, pair.session.end())
            .await
            .expect("the session does not end");
        let ended = timeout(PATIENCE, programs.join_all()).await;
        ended.expect("a task outlives the session");
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 60_000_000, "memory grew by {} MB", grown / 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_data_for_a_program_that_does_not_read_stays_at_the_agent() {
    let pair = Pair::new();
    let (_talk, mut host) = pair.carry(1, Vec::new()).await.unwrap();
    let before = memory();
    let mut floods = JoinSet::new();
    let mut stopped = Vec::new();
    for _ in 0..2 {
        stopped.push(Program::connect(&pair.session).await);
        let (_, mut send, receive) = host.opened().await.unwrap();
        floods.spawn(async move {
            let _receive = receive;
            while send.write_all(&[7; 100_000]).await.is_ok() {}
        });
    }
    for _ in 0..200 {
        works(&pair, &mut host).await;
    }
    let grown = memory().saturating_sub(before);
    // Two windows, and the send buffers of the agent, which also runs in this process.
    assert!(grown < 110_000_000, "memory grew by {} MB", grown / 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_unknown_streams_do_not_accumulate() {
    const STREAMS: u64 = 16_000;
    const ROUNDS: u64 = 100;
    let pair = Pair::new();
    let table = |round: u64| -> Vec<Entry> {
        let entry = Random(1).entry();
        (0..STREAMS)
            .map(|stream| Entry {
                stream: (round << 32) + stream,
                ..entry
            })
            .collect()
    };
    let attach = async |round: u64| {
        let (mut talk, host) = pair.carry(1, table(round)).await.unwrap();
        // The agent reads nothing.
        host.connection.close(VarInt::from_u32(0), b"");
        assert!(talk.ended().await.is_some());
    };
    for round in 0..10 {
        attach(round).await;
    }
    let before = memory();
    for round in 10..10 + ROUNDS {
        attach(round).await;
    }
    let grown = memory().saturating_sub(before);
    // The allocator keeps up to 14 MB of freed memory. An id and a reason for each stream would exceed this.
    let kept = 16 * STREAMS * ROUNDS;
    assert!(grown < kept, "memory grew by {} MB", grown / 1_000_000);
}
