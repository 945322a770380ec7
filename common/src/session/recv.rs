//! The receiving direction: from one leg after another to the local socket.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use quinn::ReadError;

use super::{
    block::{BadBlock, BlockDecoder, LARGEST},
    first_frame::FirstFrame,
    leg::{Leg, LegEnd, LegViolation, Receiver},
    socket::{self, Socket},
    stream::Stream,
};
use crate::protocol::stream::ResetCode;

/// Data on its way to the socket. It outlives a leg: what was accepted is delivered, whatever becomes of the attachment.
#[derive(Default)]
pub(super) struct Inbound {
    /// Accepted by the core, and not delivered.
    pending: VecDeque<Bytes>,
    arrived: Arrived,
}

/// What arrived on the current leg.
#[derive(Default)]
struct Arrived {
    /// Not decoded.
    chunks: VecDeque<Bytes>,
    decoder: BlockDecoder,
    /// Offset of the next byte.
    at: u64,
}

impl Inbound {
    /// Between two legs: delivers what is pending, and waits. Returns when the socket breaks.
    pub(super) async fn run_detached(&mut self, stream: &Stream, socket: &Socket) {
        self.arrived = Arrived::default();
        if self.flush(stream, socket).await.is_ok() {
            std::future::pending::<()>().await;
        }
    }

    /// Delivers what is pending, and the end when it is due.
    async fn flush(&mut self, stream: &Stream, socket: &Socket) -> Result<(), LegEnd> {
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
            stream.queue(true);
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

    /// A new leg begins, whose first byte has the offset `at`.
    pub(super) fn begin(&mut self, at: u64) {
        self.arrived = Arrived {
            at,
            ..Arrived::default()
        };
    }

    /// Gives `first` what comes on `leg`. Returns once that has all of its own.
    ///
    /// # Errors
    /// How the leg ended before.
    pub(super) async fn run_first(
        &mut self,
        stream: &Stream,
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
                self.accept(stream, leg.generation).map_err(LegEnd::Violation)?;
                continue;
            }
            if !poll_fn(|cx| self.arrived.poll_take(&mut leg.receive, cx)).await? {
                return Err(violation());
            }
        }
    }

    /// Receives from the leg that began. Returns when the leg ends or the socket breaks.
    pub(super) async fn run(
        &mut self,
        stream: &Stream,
        generation: u64,
        receive: &mut Receiver,
        socket: &Socket,
    ) -> LegEnd {
        loop {
            // Neither reading from QUIC nor writing to a socket with room yields to other tasks by itself.
            tokio::task::coop::consume_budget().await;
            if let Err(end) = self.flush(stream, socket).await {
                return end;
            }
            if !self.arrived.chunks.is_empty() {
                if let Err(violation) = self.accept(stream, generation) {
                    return LegEnd::Violation(violation);
                }
                if !self.arrived.chunks.is_empty() {
                    // A few bytes may decompress to many, which takes a while: other tasks share this thread.
                    tokio::task::yield_now().await;
                }
                continue;
            }
            match poll_fn(|cx| self.arrived.poll_take(receive, cx)).await {
                Ok(true) => {}
                Ok(false) => {
                    if let Err(violation) = self.arrived.end(stream, generation) {
                        return LegEnd::Violation(violation);
                    }
                    if let Err(end) = self.flush(stream, socket).await {
                        return end;
                    }
                    // The sending direction continues.
                    std::future::pending::<()>().await;
                }
                Err(error) => return error.into(),
            }
        }
    }

    /// Decodes what arrived, as much as one write delivers: a few bytes of the peer's may decompress to many, in many pieces.
    fn accept(&mut self, stream: &Stream, generation: u64) -> Result<(), LegViolation> {
        let mut core = stream.core();
        stream.received_data(&core);
        let mut taken = 0;
        while taken < LARGEST
            && self.pending.len() < socket::CHUNKS
            && let Some(bytes) = self.arrived.decoder.next(&mut self.arrived.chunks)?
        {
            let offset = self.arrived.at;
            self.arrived.at += bytes.len() as u64;
            taken += bytes.len();
            self.pending.extend(core.accept(generation, offset, bytes)?);
        }
        Ok(())
    }
}

/// Joins chunks that wait: each keeps a whole batch of packets in memory.
fn gather(waiting: &mut VecDeque<Bytes>) {
    if waiting.len() > 1 {
        let all = waiting.make_contiguous().concat().into();
        waiting.clear();
        waiting.push_back(all);
    }
}

impl Arrived {
    /// Takes what QUIC has. False at the end.
    fn poll_take(&mut self, receive: &mut Receiver, cx: &mut Context<'_>) -> Poll<Result<bool, ReadError>> {
        let mut chunks: [Bytes; socket::CHUNKS] = Default::default();
        let count = ready!(pin!(receive.stream().read_chunks(&mut chunks)).poll(cx))?;
        self.chunks.extend(chunks.into_iter().take(count.unwrap_or(0)));
        Poll::Ready(Ok(count.is_some()))
    }

    /// The end arrived.
    fn end(&self, stream: &Stream, generation: u64) -> Result<(), LegViolation> {
        if !self.decoder.is_between_blocks() {
            return Err(BadBlock.into());
        }
        Ok(stream.core().accept_end(generation, self.at)?)
    }
}
