//! The round-trip time of a path whose queue is empty.

use std::time::{Duration, Instant};

/// The minimum round-trip time of a path, and when it was measured last.
#[derive(Clone, Copy, Debug)]
pub(super) struct MinRtt {
    pub(super) round_trip: Duration,
    pub(super) at: Instant,
}
