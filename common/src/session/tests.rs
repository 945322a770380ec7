//! Two ends of a session in one process, joined by real QUIC connections on loopback.

mod compression;
mod rig;

use std::{collections::HashMap, time::Duration};

use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    buffer_budget::{self, BufferBudget},
    samples::noise,
    streams::Streams,
};
use rig::{Rig, soon};

async fn to_end(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    soon("the end", stream.read_to_end(&mut all)).await?;
    Ok(all)
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 4096];
    loop {
        match soon("a reset", stream.read(&mut rest)).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Closes with a TCP reset.
fn abort(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

async fn echoes(here: &mut TcpStream, there: &mut TcpStream) {
    let mut byte = [0; 5];
    here.write_all(b"there").await.unwrap();
    soon("bytes there", there.read_exact(&mut byte)).await.unwrap();
    there.write_all(b"again").await.unwrap();
    soon("bytes back", here.read_exact(&mut byte)).await.unwrap();
    assert_eq!(&byte, b"again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_direction_ends_by_itself() {
    let rig = Rig::attached().await;
    let (mut here, mut there) = rig.stream().await;
    here.write_all(b"question").await.unwrap();
    here.shutdown().await.unwrap();
    assert_eq!(to_end(&mut there).await.unwrap(), b"question");
    there.write_all(b"answer").await.unwrap();
    there.shutdown().await.unwrap();
    assert_eq!(to_end(&mut here).await.unwrap(), b"answer");
    rig.nothing_is_left().await;
}

#[test]
fn what_was_sent_before_the_agents_table_arrived_is_not_sent_again() {
    let streams = Streams::new(BufferBudget::new(buffer_budget::SESSION));
    let [early, waiting] = [streams.open(), streams.open()];
    for stream in [&early, &waiting] {
        stream.change(|core| core.write("hello".into()));
    }
    early.change(|core| {
        assert!(core.offer(1));
        core.sent(1, 5);
    });
    assert!(streams.resume(1, HashMap::new()));
    assert_eq!(early.core().send_buffer().sent(), 5);
    assert!(waiting.core().offer(1));
    // The agent did not receive the opening.
    assert!(streams.resume(2, HashMap::new()));
    assert_eq!(early.core().send_buffer().sent(), 0);
    assert!(early.core().offer(2));
}

/// What happens to the old connection when a new one comes.
#[derive(Clone, Copy, Debug)]
enum Change {
    ClientCloses,
    AgentCloses,
    NewBeforeOld,
    OldIsForgotten,
}

/// Transfers `length` bytes in both directions at once while the connection changes.
async fn transfer_through(changes: &[Change], length: usize) {
    let mut rig = Rig::attached().await;
    let (here, there) = rig.stream().await;
    let sent = [noise(length, 1), noise(length, 2)];
    let (mut here_read, mut here_write) = here.into_split();
    let (mut there_read, mut there_write) = there.into_split();
    let step = length / (changes.len() + 1);
    let reader = async {
        let (mut received, mut piece) = (Vec::new(), vec![0; 32 * 1024]);
        let mut changes = changes.iter();
        loop {
            let count = soon("more bytes", there_read.read(&mut piece))
                .await
                .expect("no reset");
            if count == 0 {
                break;
            }
            let before = received.len() / step;
            received.extend_from_slice(&piece[..count]);
            if received.len() / step == before {
                continue;
            }
            match changes.next() {
                Some(Change::ClientCloses) => {
                    rig.client_closes();
                    rig.attach().await;
                }
                Some(Change::AgentCloses) => {
                    rig.agent_closes();
                    rig.attach().await;
                }
                Some(Change::NewBeforeOld) => rig.attach().await,
                Some(Change::OldIsForgotten) => {
                    rig.attach_without_closing().await;
                }
                None => {}
            }
        }
        received
    };
    let writer = async {
        here_write.write_all(&sent[0]).await.unwrap();
        here_write.shutdown().await.unwrap();
    };
    let back_writer = async {
        there_write.write_all(&sent[1]).await.unwrap();
        there_write.shutdown().await.unwrap();
    };
    let back_reader = async {
        let mut received = Vec::new();
        here_read.read_to_end(&mut received).await.expect("no reset");
        received
    };
    let all = async { tokio::join!(reader, back_reader, writer, back_writer) };
    let (there, back, (), ()) = soon("everything", all).await;
    assert_eq!(
        Sha256::digest(&there),
        Sha256::digest(&sent[0]),
        "{} of {length}",
        there.len()
    );
    assert_eq!(
        Sha256::digest(&back),
        Sha256::digest(&sent[1]),
        "{} of {length}",
        back.len()
    );
    rig.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_continues_when_its_connection_is_closed() {
    for round in 0..10 {
        let change = if round % 2 == 0 {
            Change::ClientCloses
        } else {
            Change::AgentCloses
        };
        transfer_through(&[change], 3_000_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_continues_through_many_changes_of_every_kind() {
    use Change::{AgentCloses, ClientCloses, NewBeforeOld, OldIsForgotten};
    let all = [NewBeforeOld, ClientCloses, OldIsForgotten, AgentCloses].repeat(6);
    transfer_through(&all, 10_000_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_while_disconnected_arrives_later_as_a_reset() {
    let mut rig = Rig::attached().await;
    let (mut here, mut there) = rig.stream().await;
    let (mut second_here, mut second_there) = rig.stream().await;
    echoes(&mut here, &mut there).await;
    echoes(&mut second_here, &mut second_there).await;
    rig.client_closes();
    rig.detached().await;
    abort(here);
    abort(second_there);
    rig.attach().await;
    assert!(is_reset(&mut there).await, "from the client's side");
    assert!(is_reset(&mut second_here).await, "from the agent's side");
    rig.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_right_after_opening_leaves_nothing_at_the_peer() {
    let rig = Rig::attached().await;
    for _ in 0..50 {
        let here = rig.open().await;
        abort(here);
    }
    rig.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_while_disconnected_arrives_later_as_an_end() {
    let mut rig = Rig::attached().await;
    let (mut here, mut there) = rig.stream().await;
    echoes(&mut here, &mut there).await;
    rig.client_closes();
    rig.detached().await;
    here.write_all(b"last").await.unwrap();
    here.shutdown().await.unwrap();
    there.write_all(b"words").await.unwrap();
    there.shutdown().await.unwrap();
    rig.attach().await;
    assert_eq!(to_end(&mut there).await.unwrap(), b"last");
    assert_eq!(to_end(&mut here).await.unwrap(), b"words");
    rig.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_opened_while_disconnected_works_later() {
    let mut rig = Rig::attached().await;
    rig.client_closes();
    rig.detached().await;
    let mut here = rig.open().await;
    here.write_all(b"early").await.unwrap();
    rig.attach().await;
    let mut there = rig.arrived().await;
    let mut byte = [0; 5];
    soon("early bytes", there.read_exact(&mut byte)).await.unwrap();
    drop((here, there));
    rig.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_session_that_the_agent_does_not_know_are_reset() {
    let mut rig = Rig::attached().await;
    let (mut here, mut there) = rig.stream().await;
    echoes(&mut here, &mut there).await;
    rig.agent_is_replaced();
    rig.attach_anew().await;
    assert!(is_reset(&mut here).await);
    let (mut here, mut there) = rig.stream().await;
    echoes(&mut here, &mut there).await;
    drop((here, there));
    rig.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_stalled_readers_take_bounded_memory_and_delay_no_other_stream() {
    const COUNT: usize = 1000;
    crate::descriptors::raise_limit();
    let rig = Rig::attached().await;
    let mut stopped = Vec::new();
    for _ in 0..COUNT {
        stopped.push(rig.stream().await);
    }
    let block = vec![7; 256 * 1024];
    let most = buffer_budget::SESSION + COUNT as u64 * buffer_budget::EACH;
    let slack = 4 * 1024 * 1024;
    let held = || {
        rig.client
            .all()
            .iter()
            .map(|stream| stream.core().send_buffer().held())
            .sum::<u64>()
    };
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let fill = async {
        loop {
            ticks.tick().await;
            let mut took = 0;
            for (here, _) in &stopped {
                took += here.try_write(&block).unwrap_or(0);
            }
            assert!(held() <= most + slack, "{} held", held());
            // As full as it gets: a stream takes no more than it leaves free.
            if took == 0 && held() >= most / 10 * 9 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), fill)
        .await
        .unwrap_or_else(|_| panic!("{} held of {most}", held()));
    // It shares the connection with the others, which always have more to send, and does not wait until they are done.
    let another = async {
        let (mut here, mut there) = rig.stream().await;
        echoes(&mut here, &mut there).await;
        (here, there)
    };
    let (here, there) = tokio::time::timeout(Duration::from_secs(5), another)
        .await
        .expect("another stream is not delayed");
    assert!(held() <= most + slack, "{} held", held());
    drop((here, there));
    stopped.drain(..).for_each(|(here, there)| {
        abort(here);
        drop(there);
    });
    rig.nothing_is_left().await;
}
