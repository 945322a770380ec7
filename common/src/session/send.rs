//! The way outward: from the local socket to the send buffer, and from there onto one leg after another.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::Arc,
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

enum Sent {
    Some,
    /// It took a while to make it small.
    Slowly,
    End,
    Nothing,
}

impl Stream {
    /// From the socket to the send buffer. Returns when the socket breaks.
    pub(super) async fn fill(self: &Arc<Self>, socket: &Socket) {
        loop {
            if socket.readable().await.is_err() {
                return;
            }
            // Only now: what was free may have been taken by others meanwhile.
            let room = self.room();
            if room == 0 {
                tokio::select! {
                    () = self.room.notified() => continue,
                    _ = socket.broken() => return,
                }
            }
            let bytes = match socket.try_read(room) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return,
            };
            let count = bytes.len();
            self.change(|core| {
                if count == 0 {
                    core.finish();
                } else {
                    core.write(bytes);
                }
            });
            self.ready.notify_one();
            if count == 0 {
                break;
            }
            self.streams.count(count as u64, 0);
        }
        socket.broken().await;
    }

    fn room(&self) -> usize {
        let mut core = self.core();
        let held = core.send_buffer().held();
        if core.send_buffer().room() == 0 && held < self.streams.of_use() {
            core.is_wanted_more();
        }
        let room = core.send_buffer().room();
        drop(core);
        usize::try_from(room.min(self.streams.budget().room(held))).unwrap_or(usize::MAX)
    }

    /// Onto a leg. Returns when that ends.
    pub(super) async fn send(&self, generation: u64, send: &mut Sender) -> LegEnd {
        let mut block_encoder = BlockEncoder::new();
        loop {
            match poll_fn(|cx| self.poll_send(generation, send, &mut block_encoder, cx)).await {
                Ok(Sent::Some) => {}
                // The time is everybody's.
                Ok(Sent::Slowly) => tokio::task::yield_now().await,
                Ok(Sent::End) => send.finish(),
                Ok(Sent::Nothing) => self.ready.notified().await,
                Err(error) => return error.into(),
            }
        }
    }

    /// Gives QUIC what is to be sent next. What it took counts as sent before anybody can hear of it.
    fn poll_send(
        &self,
        generation: u64,
        send: &mut Sender,
        block_encoder: &mut BlockEncoder,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Sent, WriteError>> {
        let deflates_from = self.deflates_from();
        let mut core = self.core();
        let began = block_encoder.begin(&mut core, generation, deflates_from);
        let mut batch: [Bytes; BATCH] = Default::default();
        let filled = block_encoder.fill(&core, generation, &mut batch);
        if filled == 0 {
            let end = block_encoder.is_between_blocks() && core.take_end(generation);
            return Poll::Ready(Ok(if end { Sent::End } else { Sent::Nothing }));
        }
        let written = pin!(send.stream().write_chunks(&mut batch[..filled])).poll(cx);
        if let Poll::Ready(Ok(written)) = &written {
            block_encoder.took(&mut core, generation, written.bytes);
        }
        let tried = matches!(began, Began::Tried);
        written.map_ok(|_| if tried { Sent::Slowly } else { Sent::Some })
    }
}
