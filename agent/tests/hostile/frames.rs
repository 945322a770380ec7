//! Admitted clients that send arbitrary frames.

use std::{
    io::{ErrorKind, Write},
    time::{Duration, Instant},
};

use flate2::{Compression, write::DeflateEncoder};
use jq_common::{
    codec,
    identity::Identity,
    protocol::{
        limits,
        session::{Control, Entry, Open, StreamAck},
        stream::StreamHeader,
        target::Target,
        workload::{EngineChoice, GpuAsk, JupyterKind, PullPolicy, Request, WorkloadSpec},
    },
    session::block,
};
use quinn::{Connection, SendStream, VarInt};
use tokio::{io::AsyncReadExt, task::JoinSet, time::timeout};

use crate::{
    agent::{Address, Agent, PATIENCE},
    client::{self, Attached, Echo, Good, attach, block, connect, endpoint, open},
    random::Random,
};

fn spec(random: &mut Random) -> WorkloadSpec {
    WorkloadSpec {
        session: format!("hostile-{}", random.below(3)),
        engine: EngineChoice::Docker,
        existing_container: None,
        image: Some(String::from_utf8_lossy(&random.bytes(100)).into_owned()),
        pull: PullPolicy::Never,
        gpus: GpuAsk::None,
        volumes: Vec::new(),
        env: vec![(String::new(), String::new()); random.below(2000) as usize],
        workdir: None,
        shm_size: None,
        user: None,
        entrypoint: None,
        jupyter: JupyterKind::Lab,
    }
}

fn control(random: &mut Random) -> Control {
    let stream = random.number();
    let count = if random.below(20) == 0 {
        20_000
    } else {
        random.below(4)
    };
    match random.below(9) {
        0..=2 => Control::Acks(
            (0..count)
                .map(|_| StreamAck {
                    stream: random.number(),
                    delivered: random.number(),
                    ended: random.below(2) == 0,
                })
                .collect(),
        ),
        3 | 4 => Control::Reset {
            stream,
            code: random.next() as u32,
        },
        5 => Control::ResetAck { stream },
        6 => Control::Forgotten { stream },
        _ if random.below(50) > 0 => Control::ResetAck { stream },
        7 => Control::Restarting,
        _ => Control::Table {
            entries: (0..count)
                .map(|_| Entry {
                    stream: random.number(),
                    delivered: random.number(),
                    received: random.number(),
                    ended: true,
                    reset: Some(1),
                })
                .collect(),
            last: false,
        },
    }
}

fn header(random: &mut Random, port: u16) -> StreamHeader {
    match random.below(8) {
        0 => StreamHeader::Request(Request::Start(Box::new(spec(random)))),
        1 => StreamHeader::forward(Target::workload(port)),
        2 => StreamHeader::forward(Target::host(String::from_utf8_lossy(&random.bytes(300)), port)),
        _ => StreamHeader::forward(Target::host("127.0.0.1", port)),
    }
}

/// Opens one stream with arbitrary content.
async fn stream(
    connection: &Connection,
    random: &mut Random,
    port: u16,
    held: &mut Vec<SendStream>,
) -> Option<()> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    let open = Open {
        stream: random.below(40),
        from: if random.below(3) == 0 { random.number() } else { 0 },
        received: if random.below(3) == 0 { random.number() } else { 0 },
        header: (random.below(5) > 0).then(|| client::header(&header(random, port))),
    };
    match random.below(10) {
        0 => send.write_all(&random.bytes(200)).await.ok()?,
        1 => send.write_all(&u32::MAX.to_be_bytes()).await.ok()?,
        _ => codec::write(&mut send, &open, limits::HEADER_FRAME).await.ok()?,
    }
    let bytes = random.bytes(5000);
    match random.below(3) {
        0 => send.write_all(&bytes).await.ok()?,
        1 => send.write_all(&block::deflated(bytes.len() as u32)).await.ok()?,
        _ => send.write_all(&block(&bytes)).await.ok()?,
    }
    match random.below(4) {
        0 => drop(send.reset(VarInt::from_u32(random.below(20) as u32))),
        1 => held.push(send),
        _ => {}
    }
    if random.below(4) == 0 {
        let _ = receive.stop(VarInt::from_u32(random.below(20) as u32));
    }
    Some(())
}

/// Attaches, sends arbitrary frames, and disappears.
async fn send_arbitrary(agent: &Address, identity: &Identity, seed: u64, port: u16) -> Option<()> {
    let random = &mut Random(seed);
    let endpoint = endpoint();
    let connection = connect(&endpoint, agent, identity).await;
    // The session continues from one connection to the next, so that frames can refer to its streams.
    let Attached {
        connection, mut send, ..
    } = attach(connection, [9; 16], seed + 1).await.ok()??;
    let mut held = Vec::new();
    for _ in 0..200 {
        match random.below(3) {
            0 => codec::write(&mut send, &control(random), limits::CONTROL_FRAME)
                .await
                .ok()?,
            _ => stream(&connection, random, port, &mut held).await?,
        }
    }
    match random.below(4) {
        0 => drop(send.reset(VarInt::from_u32(1))),
        1 => drop(send.write_all(&random.bytes(30)).await),
        2 => drop(send.finish()),
        _ => {}
    }
    connection.close(VarInt::from_u32(random.below(9) as u32), b"");
    Some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arbitrary_frames_do_not_affect_other_clients() {
    let mut agent = Agent::start();
    let mut good = Good::start(&agent).await;
    let echo = Echo::start().await;
    let (identity, port) = (Identity::generate().unwrap(), echo.port);
    let address = agent.admit(&identity).await;
    good.through(async move {
        for seed in 0..60 {
            send_arbitrary(&address, &identity, seed, port).await;
        }
    })
    .await;
    agent.assert_healthy();
}

/// An attached client that reads nothing from the agent.
async fn reads_nothing(agent: &Agent) -> (quinn::Endpoint, Attached) {
    let identity = Identity::generate().unwrap();
    let address = agent.admit(&identity).await;
    let endpoint = endpoint();
    let connection = connect(&endpoint, &address, &identity).await;
    let attached = attach(connection, [2; 16], 1).await.unwrap().unwrap();
    (endpoint, attached)
}

/// A port without a listener.
async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_streams_opened_at_once_do_not_affect_other_clients() {
    let mut agent = Agent::start();
    let mut good = Good::start(&agent).await;
    let (endpoint, attached) = reads_nothing(&agent).await;
    let port = free_port().await;
    good.through(async move {
        for stream in 0..100_000 {
            let Ok((mut send, _)) = attached.connection.open_bi().await else {
                return;
            };
            let _ = codec::write(&mut send, &open(stream, port), limits::HEADER_FRAME).await;
        }
        drop((endpoint, attached));
    })
    .await;
    agent.assert_healthy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_resets_from_a_client_that_reads_nothing_do_not_affect_other_clients() {
    let mut agent = Agent::start();
    let mut good = Good::start(&agent).await;
    let (endpoint, attached) = reads_nothing(&agent).await;
    good.through(async move {
        let mut attached = attached;
        for round in 0..2000u64 {
            let mut wire = Vec::new();
            for stream in round * 1000..(round + 1) * 1000 {
                let reset = Control::Reset { stream, code: 1 };
                wire.extend(codec::encode(&reset, limits::CONTROL_FRAME).unwrap());
            }
            if attached.send.write_all(&wire).await.is_err() {
                return;
            }
        }
        drop((endpoint, attached));
    })
    .await;
    agent.assert_healthy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_frames_queued_for_a_client_that_reads_nothing_are_bounded() {
    let mut agent = Agent::start();
    let mut good = Good::start(&agent).await;
    let (endpoint, attached) = reads_nothing(&agent).await;
    let port = free_port().await;
    let before = agent.memory();
    good.through(async move {
        let mut attached = attached;
        for round in 0..400u64 {
            let mut wire = Vec::new();
            let mut given_up = JoinSet::new();
            for stream in round * 200..(round + 1) * 200 {
                let Ok((mut opened, mut receive)) = attached.connection.open_bi().await else {
                    return;
                };
                let _ = codec::write(&mut opened, &open(stream, port), limits::HEADER_FRAME).await;
                // The port has no listener, so the agent resets the stream.
                given_up.spawn(async move { receive.read_chunk(1, true).await.is_err() });
                let heard = Control::ResetAck { stream };
                wire.extend(codec::encode(&heard, limits::CONTROL_FRAME).unwrap());
            }
            given_up.join_all().await;
            if attached.send.write_all(&wire).await.is_err() {
                return;
            }
        }
        drop((endpoint, attached));
    })
    .await;
    let grown = agent.memory().saturating_sub(before);
    agent.assert_healthy();
    // The agent may buffer the frames of 16,384 streams; then it closes the connection.
    assert!(grown < 20_000_000, "memory grew by {} MB", grown / 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn incomplete_frames_use_no_more_memory_than_was_sent() {
    let mut agent = Agent::start();
    let mut good = Good::start(&agent).await;
    let (endpoint, attached) = reads_nothing(&agent).await;
    good.through(async move {
        let mut held = JoinSet::new();
        for _ in 0..1200 {
            let Ok((mut send, receive)) = attached.connection.open_bi().await else {
                return;
            };
            held.spawn(async move {
                let length = limits::HEADER_FRAME as u32;
                let _ = send.write_all(&length.to_be_bytes()).await;
                let _ = send.write_all(&[0; limits::HEADER_FRAME - 1]).await;
                let _ = send.stopped().await;
                drop(receive);
            });
        }
        held.join_all().await;
        drop((endpoint, attached));
    })
    .await;
    agent.assert_healthy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_bytes_are_not_expanded_before_the_target_accepts_them() {
    let mut agent = Agent::start();
    let (endpoint, attached) = reads_nothing(&agent).await;
    // The target accepts no connection and reads nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::best());
    deflated.write_all(&vec![0; block::LARGEST]).unwrap();
    let deflated = deflated.finish().unwrap();
    let zeros = [&block::deflated(deflated.len() as u32), &deflated[..]].concat();
    let before = agent.memory();
    let mut held = Vec::new();
    for stream in 0..20 {
        let (mut send, receive) = attached.connection.open_bi().await.unwrap();
        codec::write(&mut send, &open(stream, port), limits::HEADER_FRAME)
            .await
            .unwrap();
        send.write_all(&zeros.repeat(400)).await.unwrap();
        held.push((send, receive));
    }
    // Wait until the agent accepts no more bytes.
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let (mut most, mut since) = (before, Instant::now());
    while since.elapsed() < Duration::from_secs(2) {
        looks.tick().await;
        let now = agent.memory();
        if now > most {
            (most, since) = (now, Instant::now());
        }
    }
    assert!(attached.connection.close_reason().is_none());
    agent.assert_healthy();
    // Expanded, they would need 520 MB.
    let grown = most - before;
    assert!(grown < 30_000_000, "memory grew by {} MB", grown / 1_000_000);
    drop((endpoint, listener, held));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_block_is_no_end() {
    let mut agent = Agent::start();
    let (_endpoint, attached) = reads_nothing(&agent).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mut send, _receive) = attached.connection.open_bi().await.unwrap();
    codec::write(&mut send, &open(0, port), limits::HEADER_FRAME)
        .await
        .unwrap();
    let whole = block(b"a line of which the second half never comes");
    send.write_all(&whole[..whole.len() / 2]).await.unwrap();
    send.finish().unwrap();
    let (mut target, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut got = Vec::new();
    let ended = timeout(PATIENCE, target.read_to_end(&mut got))
        .await
        .expect("it ends");
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    agent.assert_healthy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_requests_do_not_affect_other_clients() {
    let mut agent = Agent::start();
    let mut good = Good::start(&agent).await;
    let (endpoint, attached) = reads_nothing(&agent).await;
    good.through(async move {
        let mut attached = attached;
        let mut spec = spec(&mut Random(1));
        spec.env = vec![(String::new(), "x".repeat(1000)); 100];
        for stream in 0..3000 {
            let open = Open {
                stream,
                from: 0,
                received: 0,
                header: Some(client::header(&StreamHeader::Request(Request::Start(Box::new(
                    spec.clone(),
                ))))),
            };
            let Ok((mut opened, _)) = attached.connection.open_bi().await else {
                return;
            };
            let _ = codec::write(&mut opened, &open, limits::HEADER_FRAME).await;
            let reset = Control::Reset { stream, code: 1 };
            if codec::write(&mut attached.send, &reset, limits::CONTROL_FRAME)
                .await
                .is_err()
            {
                return;
            }
        }
        drop((endpoint, attached));
    })
    .await;
    agent.assert_healthy();
}
