use std::time::Duration;

use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use tokio::{
    io::{DuplexStream, ReadHalf, WriteHalf, duplex, split},
    task::JoinSet,
    time::{advance, timeout},
};

use super::*;
use crate::{
    identity::{AllowedClients, Identity},
    quic::{self, AgentSettings, CarrierKind},
};

/// Capacity of the pipe in bytes: so small that it is full most of the time.
const NARROW: usize = 4096;

/// The content of a stream: a function of the offset, whose period is no packet length.
fn pattern(offset: usize, length: usize) -> Vec<u8> {
    const PERIOD: usize = 65_521;
    (offset..offset + length)
        .map(|at| {
            let at = (at % PERIOD) as u32;
            (at.wrapping_mul(2_654_435_761) >> 13) as u8
        })
        .collect()
}

/// Both ends of a connection over a pipe, and the tasks of their drivers.
struct Ends {
    client: Connection,
    agent: Connection,
    tasks: JoinSet<()>,
}

/// Runs a driver, and closes the endpoint when the pipe has ended, as its owner must.
fn drive(
    tasks: &mut JoinSet<()>,
    driver: PipeDriver<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>,
    endpoint: &Endpoint,
) {
    let endpoint = endpoint.clone();
    tasks.spawn(async move {
        let _ = driver.run().await;
        endpoint.close(VarInt::from_u32(1), b"the pipe ended");
    });
}

/// Connects over the pipe between `near` and `far`. None when the handshake fails.
async fn connect(near: DuplexStream, far: DuplexStream) -> Option<Ends> {
    let (agent, client) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let allowed = AllowedClients::default();
    allowed.allow(client.fingerprint());
    let settings = AgentSettings::new(&agent, allowed, &[1; 32]).unwrap();
    let mut tasks = JoinSet::new();

    let (reader, writer) = split(far);
    let (carrier, driver) = over(reader, writer);
    let serving = settings.endpoint_on(carrier, CarrierKind::Pipe).unwrap();
    drive(&mut tasks, driver, &serving);
    let (reader, writer) = split(near);
    let (carrier, driver) = over(reader, writer);
    let dialling = quic::client_endpoint_on(carrier, CarrierKind::Pipe).unwrap();
    drive(&mut tasks, driver, &dialling);

    let connecting =
        quic::connect_over(&dialling, PEER, &client, agent.fingerprint(), CarrierKind::Pipe).unwrap();
    let (accepted, connected) = tokio::join!(async { serving.accept().await?.await.ok() }, async {
        let connected = connecting.await;
        if connected.is_err() {
            // Nobody may ever arrive at the other side.
            serving.close(VarInt::from_u32(1), b"");
        }
        connected.ok()
    });
    Some(Ends {
        agent: accepted?,
        client: connected?,
        tasks,
    })
}

async fn send(mut stream: SendStream, total: usize) -> Option<SendStream> {
    let mut at = 0;
    while at < total {
        let length = (total - at).min(64 * 1024);
        stream.write_all(&pattern(at, length)).await.ok()?;
        at += length;
    }
    stream.finish().ok()?;
    Some(stream)
}

/// Reads to the end. None when an error reported that it is incomplete.
///
/// # Panics
/// When a byte is wrong, or the end is clean and not all came.
async fn receive(mut stream: RecvStream, total: usize) -> Option<()> {
    let mut at = 0;
    loop {
        match stream.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => {
                assert_eq!(chunk.offset, at as u64);
                assert!(
                    chunk.bytes == pattern(at, chunk.bytes.len()),
                    "wrong bytes at {at}"
                );
                at += chunk.bytes.len();
            }
            Ok(None) => {
                assert_eq!(at, total, "a clean end of half the bytes");
                return Some(());
            }
            Err(_) => return None,
        }
    }
}

/// Sends `total` bytes in both directions at once. None when an error reported that it failed.
async fn exchange(ends: &Ends, total: usize) -> Option<()> {
    let near = async {
        let (out, back) = ends.client.open_bi().await.ok()?;
        let (sent, received) = tokio::join!(send(out, total), receive(back, total));
        sent.and(received)
    };
    let far = async {
        let (out, back) = ends.agent.accept_bi().await.ok()?;
        let (sent, received) = tokio::join!(send(out, total), receive(back, total));
        // It has arrived only when its end is acknowledged.
        sent?.stopped().await.ok()?;
        received
    };
    let (near, far) = tokio::join!(near, far);
    near.and(far)
}

#[tokio::test]
async fn a_transfer_crosses_a_small_pipe_in_both_directions() {
    let (near, far) = duplex(NARROW);
    let ends = connect(near, far).await.unwrap();
    timeout(Duration::from_secs(120), exchange(&ends, 20_000_000))
        .await
        .expect("no stall")
        .expect("everything arrives");
}

#[tokio::test]
async fn when_the_pipe_ends_both_connections_end_at_once() {
    let (near, middle) = duplex(NARROW);
    let (end, far) = duplex(NARROW);
    let mut line = JoinSet::new();
    line.spawn(flip(middle, end, |_| 0));
    let mut ends = connect(near, far).await.unwrap();
    line.abort_all();
    let closed = async { tokio::join!(ends.client.closed(), ends.agent.closed()) };
    timeout(Duration::from_secs(5), closed)
        .await
        .expect("both notice");
    timeout(Duration::from_secs(5), async {
        while ends.tasks.join_next().await.is_some() {}
    })
    .await
    .expect("the drivers end");
}

#[tokio::test]
async fn a_pipe_is_closed_after_the_last_packet_when_its_carrier_is_dropped() {
    let (near, mut far) = duplex(NARROW);
    let (reader, writer) = split(near);
    let (carrier, driver) = over(reader, writer);
    let closed = carrier.shared.ended.clone().cancelled_owned();
    let packet = Transmit {
        destination: PEER,
        ecn: None,
        contents: b"farewell",
        segment_size: None,
        src_ip: None,
    };
    carrier.try_send(&packet).unwrap();
    drop(carrier);
    driver.run().await.unwrap();
    closed.await;
    let mut written = Vec::new();
    far.read_to_end(&mut written).await.unwrap();
    assert_eq!(written[HEADER..], *b"farewell");
}

#[tokio::test]
async fn packets_for_a_stalled_pipe_are_dropped_oldest_first() {
    let (near, mut far) = duplex(64);
    let (reader, writer) = split(near);
    let (carrier, driver) = over(reader, writer);
    let batch: Vec<u8> = (0..400_u16).flat_map(|number| vec![number as u8; 1000]).collect();
    let transmit = Transmit {
        destination: PEER,
        ecn: None,
        contents: &batch,
        segment_size: Some(1000),
        src_ip: None,
    };
    carrier.try_send(&transmit).unwrap();
    let kept = QUEUE / 1000;
    assert_eq!(carrier.shared.queues().dropped, (400 - kept) as u64);
    drop(carrier);
    let (ended, first) = tokio::join!(driver.run(), async {
        let mut wire = Vec::new();
        far.read_to_end(&mut wire).await.unwrap();
        let mut deframer = Deframer::default();
        deframer.push(&wire);
        let mut packets = std::iter::from_fn(|| deframer.next_packet().unwrap());
        let first = packets.next().unwrap();
        assert_eq!(packets.count(), kept - 1);
        first
    });
    ended.unwrap();
    assert_eq!(first[0], (400 - kept) as u8);
}

/// Copies bytes between two pipes, each changed by `change`, until either ends.
async fn flip(near: DuplexStream, far: DuplexStream, change: impl FnMut(usize) -> u8 + Clone) {
    async fn copy(
        mut from: ReadHalf<DuplexStream>,
        mut to: WriteHalf<DuplexStream>,
        mut change: impl FnMut(usize) -> u8,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 8192];
        let mut offset = 0;
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            for byte in &mut buffer[..length] {
                *byte ^= change(offset);
                offset += 1;
            }
            to.write_all(&buffer[..length]).await?;
        }
    }
    let ((near_read, near_write), (far_read, far_write)) = (split(near), split(far));
    tokio::select! {
        _ = copy(near_read, far_write, change.clone()) => {}
        _ = copy(far_read, near_write, change) => {}
    }
}

/// A generator of numbers that look random (xorshift64).
fn random(seed: u64) -> impl FnMut() -> u64 + Clone {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Changes one byte in `rarity`, at places that `seed` gives.
fn now_and_then(seed: u64, rarity: u64) -> impl FnMut(usize) -> u8 + Clone {
    let mut random = random(seed);
    move |_| match random() {
        number if number % rarity == 0 => (number >> 40) as u8 | 1,
        _ => 0,
    }
}

/// What came of sending bytes each way through a line that changes them.
async fn through(change: impl FnMut(usize) -> u8 + Clone + Send + 'static) -> Option<()> {
    let (near, middle) = duplex(NARROW);
    let (end, far) = duplex(NARROW);
    let mut line = JoinSet::new();
    line.spawn(flip(middle, end, change));
    // Where a way takes no time at all, whoever paces what he sends waits for ever.
    line.spawn(async {
        loop {
            advance(Duration::from_millis(1)).await;
        }
    });
    let ends = connect(near, far).await?;
    timeout(Duration::from_secs(600), exchange(&ends, 1_000_000))
        .await
        .expect("an end of some kind")
}

#[tokio::test(start_paused = true)]
async fn changed_bytes_never_arrive_and_never_end_a_stream_cleanly() {
    let mut complete = 0;
    for seed in 0..16 {
        let rarity = 20_000 << (seed % 4 * 2);
        complete += usize::from(through(now_and_then(seed, rarity)).await.is_some());
    }
    assert!(complete > 0, "a changed packet is sent again");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_changes_much_is_given_up() {
    for seed in 0..4 {
        assert!(through(now_and_then(seed, 400)).await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn one_changed_length_ends_the_pipe() {
    // The first frame is the client's Initial, and the second begins behind it.
    let second = HEADER + usize::from(LONGEST);
    for byte in second..second + HEADER {
        let change = move |offset| if offset == byte { 4 } else { 0 };
        assert!(through(change).await.is_none(), "byte {byte}");
    }
}
