//! The way inward: from one leg after another to the local socket.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use quinn::ReadError;

use super::{
    core::Fault,
    leg::{LegEnd, Receiver},
    socket::{self, Socket},
    stream::Stream,
};

/// What arrived and is being written to the socket, from one leg to the next.
#[derive(Default)]
pub(super) struct Inward {
    pending: VecDeque<Bytes>,
}

/// What came of reading from a leg.
enum Came {
    Chunks(Result<(), Fault>),
    End,
}

impl Inward {
    /// Without a leg: writes what is pending, and waits. Returns when the socket breaks.
    pub(super) async fn starve(&mut self, stream: &Arc<Stream>, socket: &Socket) {
        if self.flush(stream, socket).await.is_ok() {
            std::future::pending::<()>().await;
        }
    }

    async fn flush(&mut self, stream: &Arc<Stream>, socket: &Socket) -> Result<(), LegEnd> {
        while !self.pending.is_empty() {
            match socket.try_write(&self.pending) {
                Ok(count) => {
                    self.drop_first(count);
                    stream.delivered(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.gather();
                    socket.writable().await.map_err(|_| LegEnd::Socket)?;
                }
                Err(_) => return Err(LegEnd::Socket),
            }
        }
        let end = {
            let mut core = stream.core();
            core.inbox().wants_end() && core.deliver_end()
        };
        if end {
            socket.end();
            stream.settled.notify_one();
            stream.tell_peer(true);
        }
        Ok(())
    }

    /// Makes one chunk of what waits: each keeps a whole batch of packets in memory.
    fn gather(&mut self) {
        if self.pending.len() > 1 {
            let all = self.pending.make_contiguous().concat().into();
            self.pending.clear();
            self.pending.push_back(all);
        }
    }

    fn drop_first(&mut self, mut count: usize) {
        while let Some(chunk) = self.pending.front_mut() {
            if count < chunk.len() {
                return chunk.advance(count);
            }
            count -= chunk.len();
            self.pending.pop_front();
        }
    }

    pub(super) async fn receive(
        &mut self,
        stream: &Arc<Stream>,
        generation: u64,
        receive: &mut Receiver,
        mut at: u64,
        socket: &Socket,
    ) -> LegEnd {
        loop {
            // Neither reading from QUIC nor writing to a socket with room gives way to other tasks by itself.
            tokio::task::coop::consume_budget().await;
            if let Err(end) = self.flush(stream, socket).await {
                return end;
            }
            match poll_fn(|cx| self.poll_take(stream, generation, receive, &mut at, cx)).await {
                Ok(Came::Chunks(Ok(()))) => {}
                Ok(Came::Chunks(Err(fault))) => return LegEnd::Faulty(fault),
                Ok(Came::End) => {
                    let ended = stream.core().accept_end(generation, at);
                    if ended.is_ok()
                        && let Err(end) = self.flush(stream, socket).await
                    {
                        return end;
                    }
                    match ended {
                        // The other way goes on.
                        Ok(()) => std::future::pending().await,
                        Err(fault) => return LegEnd::Faulty(fault),
                    }
                }
                Err(error) => return error.into(),
            }
        }
    }

    /// Takes what has arrived, as much as one write passes on.
    fn poll_take(
        &mut self,
        stream: &Stream,
        generation: u64,
        receive: &mut Receiver,
        at: &mut u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Came, ReadError>> {
        let mut chunks: [Bytes; socket::CHUNKS] = Default::default();
        let count = match ready!(pin!(receive.stream().read_chunks(&mut chunks)).poll(cx)) {
            Ok(Some(count)) => count,
            Ok(None) => return Poll::Ready(Ok(Came::End)),
            Err(error) => return Poll::Ready(Err(error)),
        };
        let mut core = stream.core();
        let accepted = chunks.into_iter().take(count).try_for_each(|chunk| {
            let offset = *at;
            *at += chunk.len() as u64;
            self.pending.extend(core.accept(generation, offset, chunk)?);
            Ok(())
        });
        Poll::Ready(Ok(Came::Chunks(accepted)))
    }
}
