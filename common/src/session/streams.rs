//! All streams of a session at one end.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    buffer_budget::BufferBudget,
    control_queue::ControlQueue,
    core::{Reset, StreamCore},
    send_buffer::FIRST_WINDOW,
    stream::Stream,
};
use crate::protocol::{
    limits,
    session::{Control, Entry, StreamId},
    stream::ResetCode,
};

/// Most resets of streams that are not known yet which are remembered.
const MOST_EARLY: usize = 1024;

/// How many windows of the attachment a stream may hold: one is under way, and while what was lost comes again, the others
/// wait behind it at the peer.
const WINDOWS_HELD: u64 = 4;

/// A path that carries this much, in bytes a second, is not made faster by deflating: it would take a processor.
const FAST: u64 = 25_000_000;

/// The streams that an end has not forgotten, and what their peer is to be told.
#[derive(Debug)]
pub struct Streams {
    all: RwLock<All>,
    budget: Arc<BufferBudget>,
    /// What a stream may hold to some use, in bytes.
    of_use: AtomicU64,
    /// The client wants bulk to be deflated where that helps.
    may_deflate: AtomicBool,
    /// The attachment's path is slow enough for that.
    is_slow: AtomicBool,
    pub(super) control_queue: ControlQueue,
    over: CancellationToken,
    /// Bytes read from and written to local sockets.
    moved: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct All {
    streams: HashMap<StreamId, Arc<Stream>>,
    next: StreamId,
    /// Of the attachment that counts. It and the streams change together: each stream is either in a table or newer.
    generation: u64,
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
    /// Nothing is to be done: it was reset or is complete, or the attachment counts no more.
    Over,
    /// There are too many.
    TooMany,
}

/// Bytes moved since the session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Read from local sockets.
    pub sent: u64,
    /// Written to local sockets.
    pub received: u64,
}

impl Streams {
    /// None yet. Their send buffers hold what `pool` has.
    #[must_use]
    pub fn new(budget: Arc<BufferBudget>) -> Arc<Self> {
        Arc::new(Self {
            all: RwLock::default(),
            budget,
            of_use: AtomicU64::new(u64::MAX),
            may_deflate: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            control_queue: ControlQueue::new(),
            over: CancellationToken::new(),
            moved: Default::default(),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, All> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, All> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new stream of this end.
    pub fn open(self: &Arc<Self>) -> Arc<Stream> {
        let mut all = self.write();
        let core = StreamCore::new(all.next, all.generation);
        all.next += 1;
        self.insert(&mut all, core)
    }

    /// The peer opened stream `id` on the attachment of `generation`. It may begin one only from the very beginning:
    /// `is_new`.
    #[must_use]
    pub fn opened(self: &Arc<Self>, generation: u64, id: StreamId, is_new: bool) -> Opened {
        let mut all = self.write();
        if generation != all.generation || all.early_resets.remove(&id) {
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

    /// Takes in a stream that another process left.
    pub fn adopt(self: &Arc<Self>, core: StreamCore) -> Arc<Stream> {
        self.budget.held(0, core.send_buffer().held());
        self.insert(&mut self.write(), core)
    }

    fn insert(self: &Arc<Self>, all: &mut All, core: StreamCore) -> Arc<Stream> {
        let id = core.id();
        let stream = Arc::new(Stream::new(core, self.clone()));
        all.streams.insert(id, stream.clone());
        stream
    }

    /// The stream `id`, unless it is unknown or forgotten.
    #[must_use]
    pub fn get(&self, id: StreamId) -> Option<Arc<Stream>> {
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

    pub(super) fn forget(&self, id: StreamId) {
        self.write().streams.remove(&id);
    }

    /// The generation of the attachment that counts.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.read().generation
    }

    /// What the send buffers may hold.
    #[must_use]
    pub fn budget(&self) -> &BufferBudget {
        &self.budget
    }

    /// The attachment has this many bytes under way at most (its congestion window), for a round trip: streams that hold
    /// many times that gain nothing by it.
    pub fn carried(&self, window: u64, round_trip: Duration) {
        let of_use = window.saturating_mul(WINDOWS_HELD).saturating_add(FIRST_WINDOW);
        self.of_use.store(of_use, Ordering::Relaxed);
        let is_slow = (window as f64) < FAST as f64 * round_trip.as_secs_f64();
        self.is_slow.store(is_slow, Ordering::Relaxed);
    }

    /// Whether bulk may be deflated where the path is what holds it up. Not at first.
    pub fn let_deflate(&self, may: bool) {
        self.may_deflate.store(may, Ordering::Relaxed);
    }

    pub(super) fn deflates(&self) -> bool {
        self.may_deflate.load(Ordering::Relaxed) && self.is_slow.load(Ordering::Relaxed)
    }

    /// What a stream may hold to some use, in bytes.
    pub(super) fn of_use(&self) -> u64 {
        self.of_use.load(Ordering::Relaxed)
    }

    /// Bytes moved so far.
    #[must_use]
    pub fn moved(&self) -> Moved {
        Moved {
            sent: self.moved[0].load(Ordering::Relaxed),
            received: self.moved[1].load(Ordering::Relaxed),
        }
    }

    pub(super) fn count(&self, sent: u64, received: u64) {
        self.moved[0].fetch_add(sent, Ordering::Relaxed);
        self.moved[1].fetch_add(received, Ordering::Relaxed);
    }

    /// Has the peer be told `control`, now or on the next attachment.
    pub fn tell(&self, control: Control) {
        self.control_queue.tell(control);
    }

    /// At the agent: from now on only input of the attachment of `generation` counts. The agent's table; none when an
    /// attachment of this or a higher generation was there before.
    #[must_use]
    pub fn fence(&self, generation: u64) -> Option<Vec<Entry>> {
        let mut all = self.write();
        if generation <= all.generation {
            return None;
        }
        all.generation = generation;
        all.early_resets.clear();
        Some(
            all.streams
                .values()
                .map(|stream| stream.fence(generation))
                .collect(),
        )
    }

    /// At the client: a new attachment stands, and this is the agent's table. What was never sent is new to the agent;
    /// what it has forgotten is forgotten here too. False when a newer attachment was there before.
    #[must_use]
    pub fn resume(&self, generation: u64, mut table: HashMap<StreamId, Entry>) -> bool {
        let streams: Vec<_> = {
            let mut all = self.write();
            if generation <= all.generation {
                return false;
            }
            all.generation = generation;
            all.streams.values().cloned().collect()
        };
        for stream in streams {
            stream.resume(generation, table.remove(&stream.id()).as_ref());
        }
        for stream in table.into_keys() {
            // What is left out is told on the next attachment.
            if self.control_queue.is_listened_to() {
                self.tell(Control::Forgotten { stream });
            }
        }
        true
    }

    /// At the client: the agent does not know the session. Streams that it may have known are reset. Returns how many.
    pub fn lose(&self) -> usize {
        let lost: Vec<_> = self
            .all()
            .into_iter()
            .filter(|stream| stream.is_offered())
            .collect();
        for stream in &lost {
            stream.reset_by_peer(ResetCode::SessionLost);
            self.forget(stream.id());
        }
        lost.len()
    }

    /// The session is over: all streams are reset.
    pub fn end(&self) {
        self.over.cancel();
    }

    /// Returns when the session is over.
    pub async fn ended(&self) {
        self.over.cancelled().await;
    }

    /// After the end, when no stream is at work any more: forgets them all.
    pub async fn clear(&self) {
        self.write().streams.clear();
        self.control_queue.clear();
    }

    /// What the peer says on the control stream. False when that may not be said there, or the peer itself does not listen.
    pub fn hear(&self, control: &Control) -> bool {
        match control {
            Control::Acks(all) => {
                for ack in all {
                    if let Some(stream) = self.get(ack.stream) {
                        stream.acknowledge(ack);
                    }
                }
            }
            Control::Reset { stream: id, code } => {
                let (id, code) = (*id, *code);
                if let Some(stream) = self.get(id) {
                    stream.reset_by_peer(ResetCode::from_wire(code.into()));
                    self.forget(id);
                } else {
                    let mut all = self.write();
                    if all.early_resets.len() < MOST_EARLY {
                        all.early_resets.insert(id);
                    }
                }
                self.tell(Control::ResetAck { stream: id });
            }
            Control::ResetAck { stream: id } => {
                if let Some(stream) = self.get(*id)
                    && matches!(stream.reset_reason(), Some(Reset::Local(_)))
                {
                    self.forget(*id);
                }
            }
            Control::Forgotten { stream: id } => {
                if let Some(stream) = self.get(*id) {
                    stream.forgotten_by_peer();
                }
            }
            Control::Unknown => tracing::debug!("a frame of a newer peer on the control stream"),
            Control::Table { .. }
            | Control::Restarting
            | Control::Subscribe { .. }
            | Control::Update { .. } => return false,
        }
        self.control_queue.is_listened_to()
    }
}
