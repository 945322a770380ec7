//! What is compressed, and what is not.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    echoes,
    rig::{Rig, soon},
};
use crate::session::samples::{noise, text};

/// Paths on which bulk data is compressed and is not, in bytes a second.
const SLOW: u64 = 1_000_000;
const FAST: u64 = 1_000_000_000;

/// Sends `sent` from the agent's side while the connection changes `changes` times. Returns what the client's side received.
async fn downloaded(rig: &mut Rig, sent: Bytes, changes: usize) -> Vec<u8> {
    let (mut here, mut there) = rig.stream().await;
    let step = sent.len() / (changes + 1);
    let mut writing = tokio::task::JoinSet::new();
    writing.spawn(async move {
        there.write_all(&sent).await.unwrap();
        there.shutdown().await.unwrap();
        there
    });
    let (mut received, mut piece) = (Vec::new(), vec![0; 32 * 1024]);
    for change in 1..=changes + 1 {
        loop {
            let count = soon("more bytes", here.read(&mut piece)).await.expect("no reset");
            received.extend_from_slice(&piece[..count]);
            if count == 0 || received.len() >= change * step && change <= changes {
                break;
            }
        }
        if change <= changes {
            rig.attach().await;
        }
    }
    here.shutdown().await.unwrap();
    drop(writing.join_all().await);
    received
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_slow_path_a_large_text_is_compressed() {
    let mut rig = Rig::attached().await;
    rig.compresses(true, SLOW);
    let sent = text(4_000_000);
    let received = downloaded(&mut rig, sent.clone(), 0).await;
    assert!(received == sent, "{} of {}", received.len(), sent.len());
    assert!(rig.agent_sent() < 1_500_000, "{} bytes", rig.agent_sent());
    rig.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_data_arrives_unchanged_through_changes_of_connection() {
    let mut rig = Rig::attached().await;
    rig.compresses(true, SLOW);
    let mixed: Bytes = (0..20)
        .flat_map(|part| match part % 2 {
            0 => text(400_000 + part),
            _ => noise(100_000 + part, part as u64),
        })
        .collect();
    let received = downloaded(&mut rig, mixed.clone(), 8).await;
    assert!(received == mixed, "{} of {}", received.len(), mixed.len());
    rig.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_of_a_response_is_not_compressed() {
    let rig = Rig::attached().await;
    rig.compresses(true, SLOW);
    let (mut here, mut there) = rig.stream().await;
    let text = text(1_000_000);
    let (before, mut got) = (rig.agent_sent(), vec![0; text.len()]);
    let (sent, came) = tokio::join!(there.write_all(&text), soon("all", here.read_exact(&mut got)));
    sent.and(came.map(drop)).unwrap();
    assert!(rig.agent_sent() - before < 500_000, "the rest of a response is");
    let head = &text[..16_000];
    for _ in 0..20 {
        echoes(&mut here, &mut there).await;
        let (before, mut got) = (rig.agent_sent(), vec![0; head.len()]);
        let (sent, came) = tokio::join!(there.write_all(head), soon("all", here.read_exact(&mut got)));
        sent.and(came.map(drop)).unwrap();
        assert!(got == head);
        let sent = rig.agent_sent() - before;
        assert!(sent >= head.len() as u64, "{sent} bytes");
    }
    drop((here, there));
    rig.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_compressed_on_a_fast_path_or_where_it_is_not_allowed() {
    for is_allowed in [true, false] {
        let mut rig = Rig::attached().await;
        rig.compresses(is_allowed, if is_allowed { FAST } else { SLOW });
        let received = downloaded(&mut rig, text(2_000_000), 0).await;
        assert_eq!(received.len(), 2_000_000);
        assert!(rig.agent_sent() > 2_000_000, "{} bytes", rig.agent_sent());
        rig.nothing_is_left().await;
    }
}
