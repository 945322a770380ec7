//! What each side of each stream has sent and received, and how it ended. Both sides write it, the scenario reads it.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::header::Job;

/// A SHA-256 hash.
pub(super) type Digest = [u8; 32];

/// How fast a side reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it can.
    Full,
    /// At most this many bytes per second.
    Limited(u64),
    /// Not at all.
    Stopped,
}

/// What the scenario orders a side to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders {
    /// How fast to read.
    pub pace: Pace,
    /// The total number of requests that the caller of an echo sends.
    pub questions: u64,
    /// The pause between two requests.
    pub pause: Duration,
    /// End the data cleanly.
    pub finish: bool,
    /// Close with a reset at once.
    pub reset: bool,
}

/// How a side ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not ended.
    Open,
    /// It has read everything, and the end of data came where the peer's data ended. It may still be sending.
    Complete,
    /// The end of data came before the peer had ended. This is a violation.
    Early,
    /// It received a reset, from the peer or from the path.
    Reset,
    /// It has sent a reset itself.
    OwnReset,
    /// The connection was never established.
    Refused,
}

/// Something that must never happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The stream; none if not even its number arrived intact.
    pub stream: Option<u64>,
    /// A description of the violation.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stream {
            Some(stream) => write!(f, "stream {stream}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// All streams of a scenario. Clones share the same ledger.
#[derive(Clone, Default)]
pub struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    streams: Mutex<HashMap<u64, Arc<Record>>>,
    violations: Mutex<Vec<Violation>>,
}

/// A stream: its two sides.
pub(super) struct Record {
    pub(super) id: u64,
    pub(super) job: Job,
    pub(super) caller: Side,
    pub(super) callee: Side,
}

/// One side of a stream.
pub struct Side {
    orders: watch::Sender<Orders>,
    reached: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    state: Mutex<State>,
}

struct State {
    end: End,
    /// The total number of bytes sent and their hash, once the side has ended its data.
    finished: Option<(u64, Digest)>,
    /// Time of the last received byte; before that, time of the side's creation.
    heard: Instant,
    longest_silence: Duration,
    /// For each answered request: the time of the answer, and the round-trip time.
    answers: Vec<(Instant, Duration)>,
}

impl Ledger {
    pub(super) fn open(&self, job: Job) -> Arc<Record> {
        let mut streams = lock(&self.shared.streams);
        let id = streams.len() as u64 + 1;
        let record = Arc::new(Record {
            id,
            job,
            caller: Side::new(),
            callee: Side::new(),
        });
        streams.insert(id, Arc::clone(&record));
        record
    }

    pub(super) fn find(&self, id: u64) -> Option<Arc<Record>> {
        lock(&self.shared.streams).get(&id).cloned()
    }

    pub(super) fn report(&self, stream: Option<u64>, what: impl Into<String>) {
        let what = what.into();
        lock(&self.shared.violations).push(Violation { stream, what });
    }

    /// All violations so far.
    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.shared.violations).clone()
    }

    /// Number of streams that are open at the accepting side.
    pub fn served(&self) -> usize {
        let streams = lock(&self.shared.streams);
        let open = |record: &&Arc<Record>| record.callee.was_reached() && record.callee.end() == End::Open;
        streams.values().filter(open).count()
    }
}

impl Side {
    fn new() -> Self {
        let orders = Orders {
            pace: Pace::Full,
            questions: 0,
            pause: Duration::ZERO,
            finish: false,
            reset: false,
        };
        Self {
            orders: watch::Sender::new(orders),
            reached: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            state: Mutex::new(State {
                end: End::Open,
                finished: None,
                heard: Instant::now(),
                longest_silence: Duration::ZERO,
                answers: Vec::new(),
            }),
        }
    }

    /// Changes the orders for this side.
    pub fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
    }

    /// Bytes that this side has passed to the kernel.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes that this side has received from the kernel. All of them are correct.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// How reading has ended at this side.
    pub fn end(&self) -> End {
        lock(&self.state).end
    }

    /// The longest time without a byte since the last [`Self::forget_silence`], including the current silence.
    pub fn longest_silence(&self) -> Duration {
        let state = lock(&self.state);
        match state.end {
            End::Open => state.longest_silence.max(state.heard.elapsed()),
            _ => state.longest_silence,
        }
    }

    /// Restarts the measurement of [`Self::longest_silence`].
    pub fn forget_silence(&self) {
        let mut state = lock(&self.state);
        state.heard = Instant::now();
        state.longest_silence = Duration::ZERO;
    }

    /// Number of answered requests.
    pub fn answers(&self) -> usize {
        lock(&self.state).answers.len()
    }

    /// The round-trip times of the answers that arrived at `since` or later.
    pub fn round_trips(&self, since: Instant) -> Vec<Duration> {
        let state = lock(&self.state);
        let late = state.answers.iter().rev().take_while(|(at, _)| *at >= since);
        late.map(|(_, took)| *took).collect()
    }

    /// The time of the first answer at `since` or later.
    pub fn first_answer(&self, since: Instant) -> Option<Instant> {
        let state = lock(&self.state);
        state.answers.iter().map(|(at, _)| *at).find(|at| *at >= since)
    }

    pub(super) fn watch(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }

    /// Whether the stream has reached this side.
    pub fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub(super) fn set_reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    pub(super) fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        let mut state = lock(&self.state);
        state.longest_silence = state.longest_silence.max(state.heard.elapsed());
        state.heard = Instant::now();
    }

    pub(super) fn add_answer(&self, took: Duration) {
        lock(&self.state).answers.push((Instant::now(), took));
    }

    /// Must be called before the end of data is passed to the kernel.
    pub(super) fn finish(&self, digest: Digest) {
        let sent = self.sent();
        lock(&self.state).finished = Some((sent, digest));
    }

    pub(super) fn finished(&self) -> Option<(u64, Digest)> {
        lock(&self.state).finished
    }

    /// Only the first end counts. One exception: a side that has read everything may still be reset while it is sending.
    pub(super) fn set_end(&self, end: End) {
        let mut state = lock(&self.state);
        let is_over = match state.end {
            End::Open => false,
            End::Complete => !matches!(end, End::Reset | End::OwnReset),
            End::Early | End::Reset | End::OwnReset | End::Refused => true,
        };
        if !is_over {
            state.longest_silence = state.longest_silence.max(state.heard.elapsed());
            state.end = end;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
