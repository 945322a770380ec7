//! What all streams of a session share. It knows no stream: a stream holds this, and the registry holds the streams.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{buffer_budget::BufferBudget, control_queue::ControlSender, core::send_buffer::INITIAL_WINDOW};

/// Congestion windows that a stream may buffer: one is in flight; while a lost packet is retransmitted, the others wait
/// behind it at the peer.
const WINDOWS_BUFFERED: u64 = 4;

/// Bytes a second above which compression does not make a path faster: the processor becomes the bottleneck.
const FAST_PATH: u64 = 25_000_000;

/// Shared by the streams of a session.
#[derive(Debug)]
pub(super) struct StreamContext {
    /// Memory that the send buffers may take.
    pub(super) budget: Arc<BufferBudget>,
    /// Puts frames for the peer into the control queue.
    pub(super) control: ControlSender,
    over: CancellationToken,
    /// Of the current attachment. Written only under the registry's lock: the set of streams and the generation change
    /// together, so that each stream is either in an attachment's table or newer.
    generation: AtomicU64,
    /// Bytes beyond which a larger send buffer gains nothing on the current path.
    useful_buffer: AtomicU64,
    /// The client asked for bulk data to be compressed where that helps.
    may_compress: AtomicBool,
    /// The current path is slow enough for that.
    is_slow: AtomicBool,
    /// Bytes read from and written to local sockets.
    moved: [AtomicU64; 2],
}

/// Bytes moved since the session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Read from local sockets.
    pub sent: u64,
    /// Written to local sockets.
    pub received: u64,
}

impl StreamContext {
    pub(super) fn new(budget: Arc<BufferBudget>, control: ControlSender) -> Self {
        Self {
            budget,
            control,
            over: CancellationToken::new(),
            generation: AtomicU64::new(0),
            useful_buffer: AtomicU64::new(u64::MAX),
            may_compress: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            moved: Default::default(),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// For the registry, under its lock.
    pub(super) fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }

    /// The session is over.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Returns when the session is over.
    pub(super) async fn ended(&self) {
        self.over.cancelled().await;
    }

    /// The current path has a congestion window of `window` bytes and this round-trip time.
    pub(super) fn update_path(&self, window: u64, round_trip: Duration) {
        let useful = window
            .saturating_mul(WINDOWS_BUFFERED)
            .saturating_add(INITIAL_WINDOW);
        self.useful_buffer.store(useful, Ordering::Relaxed);
        let is_slow = (window as f64) < FAST_PATH as f64 * round_trip.as_secs_f64();
        self.is_slow.store(is_slow, Ordering::Relaxed);
    }

    /// Bytes beyond which a larger send buffer gains nothing on the current path.
    pub(super) fn useful_buffer(&self) -> u64 {
        self.useful_buffer.load(Ordering::Relaxed)
    }

    pub(super) fn allow_compression(&self, may: bool) {
        self.may_compress.store(may, Ordering::Relaxed);
    }

    /// Whether bulk data is worth compressing now.
    pub(super) fn compresses(&self) -> bool {
        self.may_compress.load(Ordering::Relaxed) && self.is_slow.load(Ordering::Relaxed)
    }

    pub(super) fn count_sent(&self, bytes: u64) {
        self.moved[0].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_received(&self, bytes: u64) {
        self.moved[1].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn moved(&self) -> Moved {
        Moved {
            sent: self.moved[0].load(Ordering::Relaxed),
            received: self.moved[1].load(Ordering::Relaxed),
        }
    }
}
