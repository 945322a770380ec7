//! One end of the session. It does what `Streams` and `Stream` do around each core, one step at a time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use jq_common::{
    protocol::{
        session::{Control, Entry, StreamAck, StreamId},
        stream::ResetCode,
    },
    session::{
        buffer_budget::{BufferBudget, EACH},
        core::{Reset, Resumption, StreamCore, Violation, send_buffer::MAX_WINDOW},
    },
};

/// The budget of an end in bytes. It is small, so that it runs out.
const BUDGET: u64 = 400 * 1024;

/// A stream at one end.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) core: StreamCore,
    /// Whether the stream is in the control queue.
    queued: bool,
    /// Bytes that were accepted but not delivered.
    pub(crate) pending: Bytes,
    /// Whether the socket is open.
    pub(crate) open: bool,
    /// Whether writes to the socket would block.
    pub(crate) stalled: bool,
}

impl Stream {
    fn new(core: StreamCore) -> Self {
        Self {
            core,
            queued: false,
            pending: Bytes::new(),
            open: true,
            stalled: false,
        }
    }
}

/// An entry of the control queue.
#[derive(Debug)]
pub(crate) enum Pending {
    Stream(StreamId),
    Frame(Control),
}

#[derive(Debug)]
pub(crate) struct End {
    /// The generation of the current attachment.
    pub(crate) generation: u64,
    pub(crate) known: BTreeMap<StreamId, Stream>,
    /// Streams that were forgotten. Their sockets may still be open.
    pub(crate) forgotten: BTreeMap<StreamId, Stream>,
    pub(crate) control_queue: VecDeque<Pending>,
    budget: Arc<BufferBudget>,
    /// At the agent: resets that overtook the opening of their streams on the current attachment.
    early_resets: BTreeSet<StreamId>,
}

impl End {
    pub(crate) fn new() -> Self {
        Self {
            generation: 0,
            known: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            control_queue: VecDeque::new(),
            budget: BufferBudget::new(BUDGET),
            early_resets: BTreeSet::new(),
        }
    }

    /// A stream whose socket is still open.
    pub(crate) fn at_work(&mut self, id: StreamId) -> Option<&mut Stream> {
        let stream = match self.known.get_mut(&id) {
            Some(stream) => Some(stream),
            None => self.forgotten.get_mut(&id),
        };
        stream.filter(|stream| stream.open)
    }

    pub(crate) fn insert(&mut self, core: StreamCore) {
        self.known.insert(core.id(), Stream::new(core));
    }

    pub(crate) fn forget(&mut self, id: StreamId) {
        if let Some(stream) = self.known.remove(&id) {
            self.forgotten.insert(id, stream);
        }
    }

    /// Changes a stream, and counts its memory.
    pub(crate) fn change<T>(&mut self, id: StreamId, change: impl FnOnce(&mut StreamCore) -> T) -> Option<T> {
        let stream = self.known.get_mut(&id)?;
        let before = stream.core.send_buffer().held();
        let result = change(&mut stream.core);
        self.budget.held(before, stream.core.send_buffer().held());
        Some(result)
    }

    /// Bytes that may be read from a stream's socket now.
    pub(crate) fn room(&mut self, id: StreamId) -> u64 {
        let Some(stream) = self.known.get_mut(&id) else {
            return 0;
        };
        if stream.core.send_buffer().room() == 0 {
            stream.core.window_blocked();
        }
        let send_buffer = stream.core.send_buffer();
        send_buffer.room().min(self.budget.room(send_buffer.held()))
    }

    // Sending on the control stream.

    pub(crate) fn queue(&mut self, id: StreamId) {
        if let Some(stream) = self.known.get_mut(&id)
            && !stream.queued
        {
            stream.queued = true;
            self.control_queue.push_back(Pending::Stream(id));
        }
    }

    pub(crate) fn push_frame(&mut self, control: Control) {
        self.control_queue.push_back(Pending::Frame(control));
    }

    /// All frames to send.
    pub(crate) fn frames(&mut self) -> Vec<Control> {
        let mut frames = Vec::new();
        let mut acks = Vec::new();
        while let Some(pending) = self.control_queue.pop_front() {
            match pending {
                Pending::Stream(id) => match self.state(id) {
                    Some(Control::Acks(more)) => acks.extend(more),
                    other => frames.extend(other),
                },
                Pending::Frame(Control::Acks(more)) => acks.extend(more),
                Pending::Frame(control) => frames.push(control),
            }
        }
        if !acks.is_empty() {
            frames.push(Control::Acks(acks));
        }
        frames
    }

    fn state(&mut self, stream: StreamId) -> Option<Control> {
        let known = self.known.get_mut(&stream)?;
        known.queued = false;
        Some(match known.core.reset_reason() {
            Some(Reset::Local(code)) => Control::Reset { stream, code },
            _ => Control::Acks(vec![known.core.ack()]),
        })
    }

    // Receiving on the control stream.

    /// # Errors
    /// A violation. An honest peer commits none.
    pub(crate) fn on_control(&mut self, control: Control) -> Result<(), Violation> {
        match control {
            Control::Acks(all) => {
                for StreamAck {
                    stream,
                    delivered,
                    ended,
                } in all
                {
                    self.change(stream, |core| core.acknowledge(delivered, ended))
                        .transpose()?;
                }
            }
            Control::Reset { stream, code } => {
                let changed = self.change(stream, |core| {
                    let complete = core.is_complete();
                    core.reset_by_peer(code);
                    assert!(core.is_complete() == complete, "a complete stream was reset");
                });
                if changed.is_none() {
                    self.early_resets.insert(stream);
                }
                self.forget(stream);
                self.push_frame(Control::ResetAck { stream });
            }
            Control::ResetAck { stream } => {
                let reset = self
                    .known
                    .get(&stream)
                    .and_then(|known| known.core.reset_reason());
                if matches!(reset, Some(Reset::Local(_))) {
                    self.forget(stream);
                }
            }
            Control::Forgotten { stream } => {
                let result = self.change(stream, StreamCore::forgotten);
                self.forget(stream);
                result.transpose()?;
            }
            other => unreachable!("no end sends {other:?} here"),
        }
        Ok(())
    }

    // Attachments.

    /// At the agent.
    pub(crate) fn fence(&mut self, generation: u64) -> Vec<Entry> {
        self.generation = generation;
        self.early_resets.clear();
        self.known
            .values_mut()
            .map(|stream| stream.core.fence(generation))
            .collect()
    }

    /// At the client. Does nothing when a newer attachment was there before.
    pub(crate) fn resume(&mut self, generation: u64, table: &[Entry]) -> Result<(), Violation> {
        if generation <= self.generation {
            return Ok(());
        }
        self.generation = generation;
        let mut table: BTreeMap<_, _> = table.iter().map(|entry| (entry.stream, *entry)).collect();
        let all: Vec<_> = self.known.keys().copied().collect();
        for id in all {
            let theirs = table.remove(&id);
            let resumed = self.change(id, |core| core.resume(generation, theirs.as_ref()));
            let forget = resumed.transpose()? == Some(Resumption::Forget);
            if theirs.is_some_and(|theirs| theirs.reset.is_some()) {
                self.forget(id);
                self.push_frame(Control::ResetAck { stream: id });
            } else if forget {
                self.forget(id);
            } else {
                self.queue(id);
            }
        }
        for stream in table.into_keys() {
            self.push_frame(Control::Forgotten { stream });
        }
        Ok(())
    }

    /// At the client: the agent does not know the session. Returns the streams lost.
    pub(crate) fn lose(&mut self) -> Vec<StreamId> {
        let lost: Vec<_> = self
            .known
            .values()
            .map(|stream| &stream.core)
            .filter(|core| core.is_offered())
            .map(StreamCore::id)
            .collect();
        for &id in &lost {
            self.change(id, |core| core.reset_by_peer(ResetCode::SessionLost as u32));
            self.forget(id);
        }
        lost
    }

    /// At the agent: the client opened `stream` on the attachment of `generation`. Returns whether the stream uses that
    /// attachment now.
    pub(crate) fn opened(
        &mut self,
        generation: u64,
        stream: StreamId,
        received: u64,
        is_new: bool,
    ) -> Result<bool, Violation> {
        if generation != self.generation || self.early_resets.remove(&stream) {
            return Ok(false);
        }
        if !self.known.contains_key(&stream) {
            if !is_new {
                return Ok(false);
            }
            self.insert(StreamCore::new(stream, generation));
        }
        self.change(stream, |core| core.opened(generation, received))
            .unwrap_or(Ok(false))
    }

    /// Replaces the process by its successor. Sockets and state are handed over, but not bytes that were received and not
    /// delivered.
    pub(crate) fn restart(&mut self) {
        self.control_queue.clear();
        self.budget = BufferBudget::new(BUDGET);
        self.forgotten.retain(|_, stream| stream.open);
        for stream in self.known.values_mut() {
            let (snapshot, held) = stream.core.snapshot().expect("the peer's resets are forgotten");
            let held = Bytes::from(held.concat());
            let core = StreamCore::restore(stream.core.id(), self.generation, &snapshot, held);
            stream.core = core.expect("a valid snapshot");
            stream.queued = false;
            stream.pending = Bytes::new();
            self.budget.held(0, stream.core.send_buffer().held());
        }
    }

    /// I4: memory stays within the caps, and the budget counts it correctly.
    pub(crate) fn check_memory(&self) {
        let mut above = 0;
        for stream in self.known.values() {
            let send_buffer = stream.core.send_buffer();
            assert!(send_buffer.held() <= MAX_WINDOW);
            above += send_buffer.held().saturating_sub(EACH);
        }
        for stream in self.forgotten.values() {
            let send_buffer = stream.core.send_buffer();
            assert_eq!(send_buffer.held(), 0, "a forgotten stream holds bytes");
        }
        assert_eq!(
            self.budget.room(0),
            EACH + BUDGET.saturating_sub(above),
            "the budget is counted wrongly"
        );
    }
}
