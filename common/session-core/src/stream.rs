//! The state of one logical stream at one end of a session.
//!
//! Sans-I/O: the caller reports events and polls for actions. Everything that an attachment says carries its generation;
//! what comes from any but the current attachment has no effect.

use core::ops::Range;

use bytes::Bytes;

use crate::{
    recv_state::RecvState,
    send_buffer::SendBuffer,
    violation::Violation,
    wire::{Entry, StreamAck, StreamId},
};

/// Which end reset a stream, and its code, which this crate does not interpret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// This end: the peer has to be told.
    Local(u32),
    /// The peer.
    Remote(u32),
}

impl Reset {
    /// The code.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::Local(code) | Self::Remote(code) => code,
        }
    }
}

/// The state of a stream.
#[derive(Debug)]
pub struct StreamCore {
    id: StreamId,
    /// Of the current attachment.
    pub(crate) generation: u64,
    pub(crate) send_buffer: SendBuffer,
    pub(crate) recv_state: RecvState,
    pub(crate) reset: Option<Reset>,
    /// The peer has shown that it knows the stream.
    confirmed: bool,
    /// It was opened on some attachment: the peer may know it.
    offered: bool,
}

/// What to do with a stream when a new attachment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// Send on, from [`SendBuffer::sent`](crate::send_buffer::SendBuffer::sent).
    Resume,
    /// Forget it: it is complete or was reset, and the peer knows.
    Forget,
}

impl StreamCore {
    /// A new stream.
    #[must_use]
    pub fn new(id: StreamId, generation: u64) -> Self {
        Self::resumed(id, generation, SendBuffer::new(), RecvState::default())
    }

    /// A stream that continues one of another process.
    #[must_use]
    pub(crate) fn resumed(
        id: StreamId,
        generation: u64,
        send_buffer: SendBuffer,
        recv_state: RecvState,
    ) -> Self {
        Self {
            id,
            generation,
            send_buffer,
            recv_state,
            reset: None,
            confirmed: false,
            offered: false,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The sending direction.
    #[must_use]
    pub fn send_buffer(&self) -> &SendBuffer {
        &self.send_buffer
    }

    /// The receiving direction.
    #[must_use]
    pub fn recv_state(&self) -> &RecvState {
        &self.recv_state
    }

    /// Whether and why it was reset.
    #[must_use]
    pub fn reset_reason(&self) -> Option<Reset> {
        self.reset
    }

    /// Whether the peer has shown that it knows the stream.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Whether the peer may know the stream.
    #[must_use]
    pub fn is_offered(&self) -> bool {
        self.offered
    }

    /// Both directions are complete and acknowledged: nothing is left to do but to send the last acknowledgement.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.reset.is_none() && self.send_buffer.is_complete() && self.recv_state.is_complete()
    }

    // Events at this end.

    /// `bytes` were read from the local socket.
    pub fn write(&mut self, bytes: Bytes) {
        if self.reset.is_none() {
            self.send_buffer.push(bytes);
        }
    }

    /// The local socket reached its end of file.
    pub fn finish(&mut self) {
        self.send_buffer.finish();
    }

    /// The local socket has data, and the send buffer has no room for it.
    pub fn window_blocked(&mut self) {
        self.send_buffer.window_blocked();
    }

    /// `count` accepted bytes were written to the local socket.
    pub fn deliver(&mut self, count: u64) {
        self.recv_state.deliver(count);
    }

    /// Whether the end is to be passed to the local socket now; it counts as delivered then. False while bytes come before it,
    /// and after a reset.
    pub fn deliver_end(&mut self) -> bool {
        self.reset.is_none() && self.recv_state.deliver_end()
    }

    /// Resets the stream at this end. Returns how many bytes the send buffer released. Has no effect on a stream that is
    /// complete or was reset.
    pub fn reset(&mut self, code: u32) -> u64 {
        if self.reset.is_some() || self.is_complete() {
            return 0;
        }
        self.reset = Some(Reset::Local(code));
        self.send_buffer.clear()
    }

    // Sending on the attachment of `generation`.

    /// The stream is about to be opened on the attachment of `generation`. False when that is not the current one.
    pub fn offer(&mut self, generation: u64) -> bool {
        if !self.offered && generation >= self.generation {
            // It was on no attachment before, so none can be replaced.
            self.generation = generation;
            self.offered = true;
        }
        self.generation == generation
    }

    /// Offsets of the bytes that are to be sent.
    #[must_use]
    pub fn unsent(&self, generation: u64) -> Range<u64> {
        if self.generation == generation && self.reset.is_none() {
            self.send_buffer.sent()..self.send_buffer.end()
        } else {
            0..0
        }
    }

    /// Fills `batch` with the chunks to send next. Returns how many it filled.
    #[must_use]
    pub fn batch(&self, generation: u64, batch: &mut [Bytes]) -> usize {
        if self.generation == generation && self.reset.is_none() {
            self.send_buffer.batch(batch)
        } else {
            0
        }
    }

    /// The first `count` bytes of the batch were sent.
    pub fn sent(&mut self, generation: u64, count: u64) {
        if self.generation == generation && self.reset.is_none() {
            self.send_buffer.advance(count);
        }
    }

    /// Whether the end is to be sent now; it counts as sent then.
    pub fn take_end(&mut self, generation: u64) -> bool {
        let due = self.generation == generation && self.reset.is_none() && self.send_buffer.wants_end();
        if due {
            self.send_buffer.end_sent();
        }
        due
    }

    // Receiving on the attachment of `generation`.

    /// Bytes arrived. Returns those that are new and to be delivered.
    ///
    /// # Errors
    /// A [`Violation`] by the peer.
    pub fn accept(&mut self, generation: u64, offset: u64, bytes: Bytes) -> Result<Option<Bytes>, Violation> {
        if self.generation != generation || self.reset.is_some() {
            return Ok(None);
        }
        self.confirmed = true;
        self.recv_state.accept(offset, bytes)
    }

    /// The end arrived, at `offset`.
    ///
    /// # Errors
    /// A [`Violation`] by the peer.
    pub fn accept_end(&mut self, generation: u64, offset: u64) -> Result<(), Violation> {
        if self.generation != generation || self.reset.is_some() {
            return Ok(());
        }
        self.confirmed = true;
        self.recv_state.accept_end(offset)
    }

    /// An acknowledgement arrived: what the peer's socket took. Returns how many bytes the send buffer released.
    ///
    /// # Errors
    /// A [`Violation`] by the peer.
    pub fn acknowledge(&mut self, delivered: u64, ended: bool) -> Result<u64, Violation> {
        if self.reset.is_some() {
            return Ok(0);
        }
        self.confirmed = true;
        self.send_buffer.acknowledge(delivered, ended)
    }

    /// The peer reset the stream. Returns how many bytes the send buffer released. A complete stream stays complete: the peer
    /// has not received the last acknowledgement yet.
    pub fn reset_by_peer(&mut self, code: u32) -> u64 {
        if self.is_complete() {
            return 0;
        }
        if self.reset.is_none() {
            self.reset = Some(Reset::Remote(code));
        }
        self.send_buffer.clear()
    }

    // A new attachment.

    /// At the agent: makes the attachment of `generation` the current one. Returns the entry for the client.
    pub fn fence(&mut self, generation: u64) -> Entry {
        self.generation = generation;
        self.entry()
    }

    /// The entry of this stream in the table that the peer gets.
    #[must_use]
    pub(crate) fn entry(&self) -> Entry {
        let StreamAck {
            stream,
            delivered,
            ended,
        } = self.ack();
        let reset = match self.reset {
            Some(Reset::Local(code)) => Some(code),
            _ => None,
        };
        Entry {
            stream,
            delivered,
            received: self.recv_state.received(),
            ended,
            reset,
        }
    }

    /// The acknowledgement that the peer gets.
    #[must_use]
    pub fn ack(&self) -> StreamAck {
        StreamAck {
            stream: self.id,
            delivered: self.recv_state.delivered(),
            ended: self.recv_state.is_complete(),
        }
    }

    /// At the client: the attachment of `generation` is the current one, and the agent's table has the entry `theirs` of this
    /// stream, or none. A stream that was opened on this attachment already is newer than the table.
    ///
    /// # Errors
    /// A [`Violation`] by the agent.
    pub fn resume(&mut self, generation: u64, theirs: Option<&Entry>) -> Result<Resumption, Violation> {
        if self.offered && self.generation == generation {
            return Ok(Resumption::Resume);
        }
        self.generation = generation;
        let Some(theirs) = theirs else {
            return self.forgotten_or_never_known();
        };
        self.confirmed = true;
        if let Some(code) = theirs.reset {
            self.reset_by_peer(code);
            return Ok(Resumption::Resume);
        }
        if self.reset.is_some() {
            return Ok(Resumption::Resume);
        }
        if theirs.received < theirs.delivered {
            return Err(Violation::Offset);
        }
        self.send_buffer.rewind(theirs.received)?;
        self.send_buffer.acknowledge(theirs.delivered, theirs.ended)?;
        Ok(Resumption::Resume)
    }

    fn forgotten_or_never_known(&mut self) -> Result<Resumption, Violation> {
        if self.confirmed || self.reset.is_some() {
            return self.forgotten().map(|()| Resumption::Forget);
        }
        self.send_buffer.rewind(0)?;
        Ok(Resumption::Resume)
    }

    /// The peer has forgotten the stream. So it must be complete at this end too, or reset, and may be forgotten.
    ///
    /// # Errors
    /// [`Violation::Forgotten`] when it is neither.
    pub fn forgotten(&mut self) -> Result<(), Violation> {
        if self.reset.is_some() {
            return Ok(());
        }
        if !self.recv_state.is_complete() {
            return Err(Violation::Forgotten);
        }
        self.send_buffer
            .acknowledge(self.send_buffer.end(), true)
            .map(drop)
            .map_err(|_| Violation::Forgotten)
    }

    /// At the agent: the client opened the stream on the attachment of `generation`, and has received everything before
    /// `received`. False when that is not the current attachment.
    ///
    /// # Errors
    /// A [`Violation`] by the client.
    pub fn opened(&mut self, generation: u64, received: u64) -> Result<bool, Violation> {
        if self.generation != generation {
            return Ok(false);
        }
        self.confirmed = true;
        if self.reset.is_none() {
            self.send_buffer.rewind(received)?;
        }
        Ok(true)
    }
}
