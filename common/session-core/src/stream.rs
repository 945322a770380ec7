//! One logical stream at one end of a session. No I/O and no clock: what happens is told, what is to be done is asked.

use core::ops::Range;

use bytes::Bytes;

use crate::{
    recv_state::RecvState,
    send_buffer::SendBuffer,
    violation::Violation,
    wire::{Entry, StreamAck, StreamId},
};

/// Where a reset came from, and its code: a number to this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// This end; the peer has to hear of it.
    Local(u32),
    /// The other end.
    Remote(u32),
}

impl Reset {
    /// Why.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::Local(code) | Self::Remote(code) => code,
        }
    }
}

/// A stream's state.
#[derive(Debug)]
pub struct StreamCore {
    id: StreamId,
    /// Of the attachment whose input counts.
    pub(crate) generation: u64,
    pub(crate) send_buffer: SendBuffer,
    pub(crate) recv_state: RecvState,
    pub(crate) reset: Option<Reset>,
    /// The peer knows it.
    confirmed: bool,
    /// It was sent on some attachment: the peer may know it.
    offered: bool,
}

/// What is to be done with a stream when a new attachment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// Send from where [`SendBuffer::sent`](crate::send_buffer::SendBuffer::sent) stands.
    Resume,
    /// It is over: the peer knew all there is to know.
    Forget,
}

impl StreamCore {
    /// A new stream.
    #[must_use]
    pub fn new(id: StreamId, generation: u64) -> Self {
        Self::resumed(id, generation, SendBuffer::new(), RecvState::default())
    }

    /// A stream that goes on where another process left it.
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

    /// Which stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The sending half.
    #[must_use]
    pub fn send_buffer(&self) -> &SendBuffer {
        &self.send_buffer
    }

    /// The receiving half.
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

    /// Both directions are complete and acknowledged: there is nothing left to do or to tell but the last progress.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.reset.is_none() && self.send_buffer.is_complete() && self.recv_state.is_complete()
    }

    // What happens at this end.

    /// The local socket gave `bytes`.
    pub fn write(&mut self, bytes: Bytes) {
        if self.reset.is_none() {
            self.send_buffer.push(bytes);
        }
    }

    /// The local socket's data ended.
    pub fn finish(&mut self) {
        self.send_buffer.finish();
    }

    /// The local socket has more, and there is no room for it.
    pub fn is_wanted_more(&mut self) {
        self.send_buffer.is_wanted_more();
    }

    /// The local socket took `count` bytes of what was accepted.
    pub fn deliver(&mut self, count: u64) {
        self.recv_state.deliver(count);
    }

    /// The local socket is to be told the end now. False when something comes before it, or a reset instead of it.
    pub fn deliver_end(&mut self) -> bool {
        self.reset.is_none() && self.recv_state.deliver_end()
    }

    /// The stream is given up at this end. Returns the bytes let go. A complete stream and a reset one stay what they are.
    pub fn reset(&mut self, code: u32) -> u64 {
        if self.reset.is_some() || self.is_complete() {
            return 0;
        }
        self.reset = Some(Reset::Local(code));
        self.send_buffer.clear()
    }

    // What goes out on the attachment of `generation`; that of an older one changes nothing.

    /// The stream is about to be opened on the attachment of `generation`. False when that is not the one that counts.
    pub fn offer(&mut self, generation: u64) -> bool {
        if !self.offered && generation >= self.generation {
            // Nothing has come in yet that could be late.
            self.generation = generation;
            self.offered = true;
        }
        self.generation == generation
    }

    /// Which bytes are to be sent next, by their offsets.
    #[must_use]
    pub fn unsent(&self, generation: u64) -> Range<u64> {
        if self.generation == generation && self.reset.is_none() {
            self.send_buffer.sent()..self.send_buffer.end()
        } else {
            0..0
        }
    }

    /// Fills `batch` with what is to be sent next and returns how many places it took.
    #[must_use]
    pub fn batch(&self, generation: u64, batch: &mut [Bytes]) -> usize {
        if self.generation == generation && self.reset.is_none() {
            self.send_buffer.batch(batch)
        } else {
            0
        }
    }

    /// `count` bytes of the batch went out.
    pub fn sent(&mut self, generation: u64, count: u64) {
        if self.generation == generation && self.reset.is_none() {
            self.send_buffer.advance(count);
        }
    }

    /// Whether the end is to be sent now. It counts as sent then.
    pub fn take_end(&mut self, generation: u64) -> bool {
        let due = self.generation == generation && self.reset.is_none() && self.send_buffer.wants_end();
        if due {
            self.send_buffer.end_sent();
        }
        due
    }

    // What comes in on the attachment of `generation`; what comes on an older one changes nothing.

    /// Bytes arrived. Returns what of them is new and to be delivered.
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

    /// The peer tells what its socket took. Returns the bytes let go.
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

    /// The peer gave the stream up. Returns the bytes let go. A complete stream stays complete: the peer has not heard yet
    /// that it is.
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

    /// At the agent: from now on only input of the attachment of `generation` counts. What the client is to know.
    pub fn fence(&mut self, generation: u64) -> Entry {
        self.generation = generation;
        self.entry()
    }

    /// What the peer is to know of this stream.
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

    /// How far its receiving half has come.
    #[must_use]
    pub fn ack(&self) -> StreamAck {
        StreamAck {
            stream: self.id,
            delivered: self.recv_state.delivered(),
            ended: self.recv_state.is_complete(),
        }
    }

    /// At the client: the new attachment of `generation` stands, and the agent's table has `theirs` about this stream, or
    /// nothing. A stream that was offered on this attachment already is newer than the table.
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

    /// The peer has forgotten the stream. Then it is complete here too, or was reset, and may be forgotten.
    ///
    /// # Errors
    /// [`Violation::Forgotten`] when that cannot be: something was still to come.
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

    /// At the agent: the client opened the stream on the attachment of `generation`, and has everything before `received`.
    /// False when that is not the attachment that counts.
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
