//! The rate that a path is known to carry.

use std::time::{Duration, Instant};

/// The fastest of so many spans counts, each of a round trip and no shorter than this.
const SPANS: usize = 10;
const SPAN: Duration = Duration::from_millis(50);

/// The fastest rates of the last spans, in bytes a second.
#[derive(Clone, Debug)]
pub(super) struct BandwidthFilter {
    spans: [f64; SPANS],
    current: usize,
    began: Instant,
}

impl BandwidthFilter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            spans: [0.0; SPANS],
            current: 0,
            began: now,
        }
    }

    pub(super) fn forget(&mut self) {
        self.spans = [0.0; SPANS];
    }

    pub(super) fn forget_all_but_latest(&mut self) {
        let latest = [self.current, (self.current + SPANS - 1) % SPANS];
        for (index, span) in self.spans.iter_mut().enumerate() {
            if !latest.contains(&index) {
                *span = 0.0;
            }
        }
    }

    pub(super) fn see(&mut self, rate: f64) {
        let span = &mut self.spans[self.current];
        *span = span.max(rate);
    }

    pub(super) fn fastest(&self) -> f64 {
        self.spans.iter().copied().fold(0.0, f64::max)
    }

    /// A round trip has ended that was full.
    pub(super) fn advance(&mut self, now: Instant, round_trip: Duration) {
        if now.saturating_duration_since(self.began) >= SPAN.max(round_trip) {
            self.began = now;
            self.current = (self.current + 1) % SPANS;
            self.spans[self.current] = 0.0;
        }
    }
}
