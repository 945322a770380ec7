//! The way inbound: from one leg after another to the local socket.

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
    block::{BlockDecoder, LARGEST},
    core::Fault,
    leg::{Leg, LegEnd, Receiver},
    opening::FirstFrame,
    socket::{self, Socket},
    stream::Stream,
};
use crate::protocol::stream::ResetCode;

/// What arrived and is being written to the socket, from one leg to the next.
#[derive(Default)]
pub(super) struct Inbound {
    pending: VecDeque<Bytes>,
    arrived: Arrived,
}

/// What came on the leg that there is.
#[derive(Default)]
struct Arrived {
    /// Not taken apart yet.
    chunks: VecDeque<Bytes>,
    block_decoder: BlockDecoder,
    /// Offset of the next byte.
    at: u64,
}

impl Inbound {
    /// Without a leg: writes what is pending, and waits. Returns when the socket breaks.
    pub(super) async fn starve(&mut self, stream: &Arc<Stream>, socket: &Socket) {
        self.arrived = Arrived::default();
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
                    gather(&mut self.pending);
                    gather(&mut self.arrived.chunks);
                    socket.writable().await.map_err(|_| LegEnd::Socket)?;
                }
                Err(_) => return Err(LegEnd::Socket),
            }
        }
        let end = {
            let mut core = stream.core();
            core.recv_state().wants_end() && core.deliver_end()
        };
        if end {
            socket.end();
            stream.settled.notify_one();
            stream.tell_peer(true);
        }
        Ok(())
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

    /// A new leg begins, which gives the bytes from `at` on.
    pub(super) fn begin(&mut self, at: u64) {
        self.arrived = Arrived {
            at,
            ..Arrived::default()
        };
    }

    /// Gives `first` what comes on `leg`, and returns once that has all of its own.
    pub(super) async fn receive_first(
        &mut self,
        stream: &Arc<Stream>,
        leg: &mut Leg,
        first: &mut FirstFrame,
    ) -> Result<(), LegEnd> {
        let violation = || LegEnd::Refused(ResetCode::ProtocolViolation);
        loop {
            tokio::task::coop::consume_budget().await;
            while let Some(chunk) = self.pending.front_mut() {
                let count = first.take(chunk).ok_or_else(violation)?;
                stream.delivered(count as u64);
                if first.is_complete() {
                    return Ok(());
                }
                self.pending.pop_front();
            }
            if !self.arrived.chunks.is_empty() {
                self.accept(stream, leg.generation).map_err(LegEnd::Faulty)?;
                continue;
            }
            if !poll_fn(|cx| self.arrived.poll_take(&mut leg.receive, cx)).await? {
                return Err(violation());
            }
        }
    }

    pub(super) async fn receive(
        &mut self,
        stream: &Arc<Stream>,
        generation: u64,
        receive: &mut Receiver,
        socket: &Socket,
    ) -> LegEnd {
        loop {
            // Neither reading from QUIC nor writing to a socket with room gives way to other tasks by itself.
            tokio::task::coop::consume_budget().await;
            if let Err(end) = self.flush(stream, socket).await {
                return end;
            }
            if !self.arrived.chunks.is_empty() {
                if let Err(fault) = self.accept(stream, generation) {
                    return LegEnd::Faulty(fault);
                }
                if !self.arrived.chunks.is_empty() {
                    // Few bytes that become many take their time, which is everybody's.
                    tokio::task::yield_now().await;
                }
                continue;
            }
            match poll_fn(|cx| self.arrived.poll_take(receive, cx)).await {
                Ok(true) => {}
                Ok(false) => {
                    if let Err(fault) = self.arrived.end(stream, generation) {
                        return LegEnd::Faulty(fault);
                    }
                    if let Err(end) = self.flush(stream, socket).await {
                        return end;
                    }
                    // The other way goes on.
                    std::future::pending::<()>().await;
                }
                Err(error) => return error.into(),
            }
        }
    }

    /// Takes apart what arrived, as much as one write passes on: a peer's few bytes may become many, and in many pieces.
    fn accept(&mut self, stream: &Stream, generation: u64) -> Result<(), Fault> {
        let mut core = stream.core();
        stream.heard(&core);
        let mut taken = 0;
        while taken < LARGEST
            && self.pending.len() < socket::CHUNKS
            && let Some(bytes) = self.arrived.block_decoder.next(&mut self.arrived.chunks)?
        {
            let offset = self.arrived.at;
            self.arrived.at += bytes.len() as u64;
            taken += bytes.len();
            self.pending.extend(core.accept(generation, offset, bytes)?);
        }
        Ok(())
    }
}

/// Makes one chunk of what waits: each keeps a whole batch of packets in memory.
fn gather(waiting: &mut VecDeque<Bytes>) {
    if waiting.len() > 1 {
        let all = waiting.make_contiguous().concat().into();
        waiting.clear();
        waiting.push_back(all);
    }
}

impl Arrived {
    /// Takes in what there is. False at the end.
    fn poll_take(&mut self, receive: &mut Receiver, cx: &mut Context<'_>) -> Poll<Result<bool, ReadError>> {
        let mut chunks: [Bytes; socket::CHUNKS] = Default::default();
        let count = ready!(pin!(receive.stream().read_chunks(&mut chunks)).poll(cx))?;
        self.chunks.extend(chunks.into_iter().take(count.unwrap_or(0)));
        Poll::Ready(Ok(count.is_some()))
    }

    /// The end arrived.
    fn end(&self, stream: &Stream, generation: u64) -> Result<(), Fault> {
        if !self.block_decoder.is_between_blocks() {
            return Err(Fault::Block);
        }
        stream.core().accept_end(generation, self.at)
    }
}
