//! The registry of a session's streams at one end: the only one who owns them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use tokio::sync::{Mutex, MutexGuard};

pub use super::context::Moved;
use super::{
    buffer_budget::BufferBudget,
    context::StreamContext,
    control_queue::{self, ControlQueue},
    core::{Entry, Reset, Resumption, StreamAck, StreamCore, StreamId},
    leg::LegSource,
    opening::Opening,
    proxy,
    socket::Socket,
    stream::{Ended, Stream},
};
use crate::protocol::{limits, session::Control, stream::ResetCode};

/// Most resets of streams not known yet that are remembered.
const MOST_EARLY: usize = 1024;

/// The streams that an end has not forgotten.
#[derive(Debug)]
pub struct Streams {
    all: RwLock<All>,
    pub(super) context: Arc<StreamContext>,
    /// Locked by the attachment that sends from it, which may be asleep for long.
    control_queue: Mutex<ControlQueue>,
}

#[derive(Debug, Default)]
struct All {
    streams: HashMap<StreamId, Arc<Stream>>,
    next: StreamId,
    /// Streams whose reset overtook their opening on this attachment.
    early_resets: HashSet<StreamId>,
}

/// What came of a stream that the peer opened.
#[derive(Debug)]
pub enum Opened {
    /// It is known.
    Known(Arc<Stream>),
    /// It is new.
    New(Arc<Stream>),
    /// Nothing is to be done: it was reset or is complete, or the attachment is no longer the current one.
    Over,
    /// There are too many.
    TooMany,
}

impl Streams {
    /// No streams yet. Their send buffers will take memory from `budget`.
    #[must_use]
    pub fn new(budget: Arc<BufferBudget>) -> Self {
        let (sender, queue) = control_queue::channel();
        Self {
            all: RwLock::default(),
            context: Arc::new(StreamContext::new(budget, sender)),
            control_queue: Mutex::new(queue),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, All> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, All> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }

    // New streams.

    /// A new stream of this end.
    pub fn open(&self) -> Arc<Stream> {
        let mut all = self.write();
        let core = StreamCore::new(all.next, self.generation());
        all.next += 1;
        self.insert(&mut all, core)
    }

    /// The peer opened stream `id` on the attachment of `generation`. A stream that is not known is accepted only at its very
    /// beginning: `is_new`.
    #[must_use]
    pub fn opened(&self, generation: u64, id: StreamId, is_new: bool) -> Opened {
        let mut all = self.write();
        if generation != self.generation() || all.early_resets.remove(&id) {
            return Opened::Over;
        }
        if let Some(stream) = all.streams.get(&id) {
            return Opened::Known(stream.clone());
        }
        if !is_new {
            return Opened::Over;
        }
        if all.streams.len() >= limits::STREAMS as usize {
            return Opened::TooMany;
        }
        Opened::New(self.insert(&mut all, StreamCore::new(id, generation)))
    }

    /// Takes over a stream from another process.
    pub fn adopt(&self, core: StreamCore) -> Arc<Stream> {
        self.insert(&mut self.write(), core)
    }

    fn insert(&self, all: &mut All, core: StreamCore) -> Arc<Stream> {
        let id = core.id();
        let stream = Arc::new(Stream::new(core, self.context.clone()));
        all.streams.insert(id, stream.clone());
        stream
    }

    // Use.

    /// Copies between `stream` and `socket` in both directions until the stream is complete or reset. `socket` stays with the
    /// caller, who resets it unless the stream is complete. Dropping the future leaves the stream as it is.
    pub async fn proxy(&self, stream: &Stream, socket: &Socket, legs: &mut impl LegSource) -> Ended {
        self.proxy_from(Opening::default(), stream, socket, legs).await
    }

    /// As [`Streams::proxy`], from where `opening` stands.
    pub async fn proxy_from(
        &self,
        opening: Opening,
        stream: &Stream,
        socket: &Socket,
        legs: &mut impl LegSource,
    ) -> Ended {
        let ended = proxy::run(opening, stream, socket, legs).await;
        if ended == Ended::Complete {
            // The peer waits for this acknowledgement, and nothing else will send it.
            let ack = stream.core().ack();
            self.context.control.push_frame(Control::Acks(vec![ack]));
            self.forget(stream.id());
        }
        ended
    }

    /// The stream `id`, unless it is unknown or forgotten.
    #[must_use]
    pub(crate) fn get(&self, id: StreamId) -> Option<Arc<Stream>> {
        self.read().streams.get(&id).cloned()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().streams.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them as they are now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Stream>> {
        self.read().streams.values().cloned().collect()
    }

    fn forget(&self, id: StreamId) {
        self.write().streams.remove(&id);
    }

    /// Bytes moved so far.
    #[must_use]
    pub fn moved(&self) -> Moved {
        self.context.moved()
    }

    // The path.

    /// The current attachment's path has a congestion window of `window` bytes and this round-trip time. Bounds the send
    /// buffers by what is of use there, and decides whether compression is.
    pub fn update_path(&self, window: u64, round_trip: Duration) {
        self.context.update_path(window, round_trip);
    }

    /// Whether bulk data may be compressed where the path is the bottleneck. Not at first.
    pub fn allow_compression(&self, may: bool) {
        self.context.allow_compression(may);
    }

    // Attachments.

    /// The generation of the current attachment.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.context.generation()
    }

    /// At the agent: makes the attachment of `generation` the current one; input of older ones has no effect from now on. The
    /// agent's table; none when an attachment of this or a higher generation was there before.
    #[must_use]
    pub fn fence(&self, generation: u64) -> Option<Vec<Entry>> {
        let mut all = self.write();
        if generation <= self.generation() {
            return None;
        }
        self.context.set_generation(generation);
        all.early_resets.clear();
        let streams = all.streams.values();
        Some(streams.map(|stream| stream.fence(generation)).collect())
    }

    /// At the client: a new attachment stands, and this is the agent's table. What was never sent is new to the agent;
    /// what it has forgotten is forgotten here too. False when a newer attachment was there before.
    #[must_use]
    pub fn resume(&self, generation: u64, mut table: HashMap<StreamId, Entry>) -> bool {
        let streams: Vec<_> = {
            let all = self.write();
            if generation <= self.generation() {
                return false;
            }
            self.context.set_generation(generation);
            all.streams.values().cloned().collect()
        };
        for stream in streams {
            self.resume_stream(&stream, generation, table.remove(&stream.id()).as_ref());
        }
        for stream in table.into_keys() {
            // The others follow on the next attachment.
            if !self.context.control.is_full() {
                self.send_control(Control::Forgotten { stream });
            }
        }
        true
    }

    fn resume_stream(&self, stream: &Stream, generation: u64, theirs: Option<&Entry>) {
        if stream.resume(generation, theirs) == Resumption::Forget {
            self.forget(stream.id());
        }
        if theirs.is_some_and(|theirs| theirs.reset.is_some()) {
            self.send_control(Control::ResetAck { stream: stream.id() });
        }
    }

    /// At the client: the agent does not know the session. Resets the streams that it may have known. Returns how many.
    pub fn lose(&self) -> usize {
        let mut lost = self.all();
        lost.retain(|stream| stream.core().is_offered());
        for stream in &lost {
            stream.reset_by_peer(ResetCode::SessionLost as u32);
            self.forget(stream.id());
        }
        lost.len()
    }

    /// The session is over: all streams that are being proxied are reset, and nothing more is sent on the control stream.
    pub fn end(&self) {
        self.context.end();
    }

    /// Returns when the session is over.
    pub async fn ended(&self) {
        self.context.ended().await;
    }

    // The control stream.

    /// Sends `frame` on the control stream, now or on the next attachment.
    pub fn send_control(&self, frame: Control) {
        self.context.control.push_frame(frame);
    }

    /// The queue of frames for the control stream. Waits until no other attachment sends from it.
    pub(super) async fn lock_control_queue(&self) -> MutexGuard<'_, ControlQueue> {
        self.control_queue.lock().await
    }

    /// The state of stream `id` for the control stream: its acknowledgement, or its reset.
    pub(super) fn state(&self, id: StreamId) -> Option<Result<StreamAck, Control>> {
        self.get(id).map(|stream| stream.state())
    }

    /// Handles a frame from the control stream. False when it is not allowed there, or when the peer does not read its own
    /// control stream.
    pub fn on_control(&self, frame: &Control) -> bool {
        match frame {
            Control::Acks(all) => {
                for ack in all {
                    if let Some(stream) = self.get(ack.stream) {
                        stream.acknowledge(ack);
                    }
                }
            }
            Control::Reset { stream, code } => self.on_reset(*stream, *code),
            Control::ResetAck { stream: id } => {
                let reset = self.get(*id).and_then(|stream| stream.reset_reason());
                if matches!(reset, Some(Reset::Local(_))) {
                    self.forget(*id);
                }
            }
            Control::Forgotten { stream } => self.on_forgotten(*stream),
            Control::Unknown => tracing::debug!("a frame of a newer peer on the control stream"),
            Control::Table { .. }
            | Control::Restarting
            | Control::Subscribe { .. }
            | Control::Update { .. } => return false,
        }
        !self.context.control.is_full()
    }

    fn on_reset(&self, id: StreamId, code: u32) {
        if let Some(stream) = self.get(id) {
            stream.reset_by_peer(code);
            self.forget(id);
        } else {
            let mut all = self.write();
            if all.early_resets.len() < MOST_EARLY {
                all.early_resets.insert(id);
            }
        }
        self.send_control(Control::ResetAck { stream: id });
    }

    fn on_forgotten(&self, id: StreamId) {
        let Some(stream) = self.get(id) else { return };
        let result = stream.forgotten_by_peer();
        self.forget(id);
        if result.is_err()
            && let Err(reset) = stream.state()
        {
            self.send_control(reset);
        }
    }
}
