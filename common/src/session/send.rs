//! The sending direction: from the local socket to the send buffer, and from there onto one leg after another.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use quinn::WriteError;

use super::{
    block::{BATCH, Began, BlockEncoder},
    leg::{LegEnd, Sender},
    socket::Socket,
    stream::Stream,
};

/// What one write to QUIC did.
enum Progress {
    Sent,
    /// Bytes were sent after an attempt to compress, which takes a while.
    Compressed,
    /// The end is to be sent.
    End,
    /// There is nothing to send.
    Idle,
}

/// Reads from the socket into the send buffer. Returns when the socket breaks.
pub(super) async fn fill(stream: &Stream, socket: &Socket) {
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        // Only now: other streams may have taken the memory meanwhile.
        let room = room(stream);
        if room == 0 {
            tokio::select! {
                () = stream.room.notified() => continue,
                _ = socket.broken() => return,
            }
        }
        let bytes = match socket.try_read(room) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        let count = bytes.len();
        stream.change(|core| {
            if count == 0 {
                core.finish();
            } else {
                core.write(bytes);
            }
        });
        stream.ready.notify_one();
        if count == 0 {
            break;
        }
        stream.context.count_sent(count as u64);
    }
    socket.broken().await;
}

/// Bytes that may be read from the socket now.
fn room(stream: &Stream) -> usize {
    let mut core = stream.core();
    let held = core.send_buffer().held();
    if core.send_buffer().room() == 0 && held < stream.context.useful_buffer() {
        core.window_blocked();
    }
    let room = core.send_buffer().room();
    drop(core);
    usize::try_from(room.min(stream.context.budget.room(held))).unwrap_or(usize::MAX)
}

/// Sends from the send buffer onto a leg. Returns when the leg ends.
pub(super) async fn run(stream: &Stream, generation: u64, send: &mut Sender) -> LegEnd {
    let mut encoder = BlockEncoder::new();
    loop {
        match poll_fn(|cx| poll_send(stream, generation, send, &mut encoder, cx)).await {
            Ok(Progress::Sent) => {}
            // Other tasks share this thread.
            Ok(Progress::Compressed) => tokio::task::yield_now().await,
            Ok(Progress::End) => send.finish(),
            Ok(Progress::Idle) => stream.ready.notified().await,
            Err(error) => return error.into(),
        }
    }
}

/// Gives QUIC what is to be sent next. The lock is held meanwhile: bytes count as sent before anybody can acknowledge them.
fn poll_send(
    stream: &Stream,
    generation: u64,
    send: &mut Sender,
    encoder: &mut BlockEncoder,
    cx: &mut Context<'_>,
) -> Poll<Result<Progress, WriteError>> {
    let compressible_from = stream.compressible_from();
    let mut core = stream.core();
    let began = encoder.begin(&mut core, generation, compressible_from);
    let mut batch: [Bytes; BATCH] = Default::default();
    let filled = encoder.fill(&core, generation, &mut batch);
    if filled == 0 {
        let end = encoder.is_between_blocks() && core.take_end(generation);
        return Poll::Ready(Ok(if end { Progress::End } else { Progress::Idle }));
    }
    let written = pin!(send.stream().write_chunks(&mut batch[..filled])).poll(cx);
    if let Poll::Ready(Ok(written)) = &written {
        encoder.took(&mut core, generation, written.bytes);
    }
    let compressed = matches!(began, Began::Tried);
    written.map_ok(|_| {
        if compressed {
            Progress::Compressed
        } else {
            Progress::Sent
        }
    })
}
