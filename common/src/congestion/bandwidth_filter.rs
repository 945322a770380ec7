//! The bandwidth of a path: a windowed maximum of delivery rates.

use std::time::{Duration, Instant};

/// The filter covers so many spans, each of a round trip and at least this long.
const SPANS: usize = 10;
const SPAN: Duration = Duration::from_millis(50);

/// The maximum delivery rate of each of the last spans, in bytes a second.
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

    pub(super) fn clear(&mut self) {
        self.spans = [0.0; SPANS];
    }

    pub(super) fn keep_latest(&mut self) {
        let latest = [self.current, (self.current + SPANS - 1) % SPANS];
        for (index, span) in self.spans.iter_mut().enumerate() {
            if !latest.contains(&index) {
                *span = 0.0;
            }
        }
    }

    pub(super) fn add(&mut self, rate: f64) {
        let span = &mut self.spans[self.current];
        *span = span.max(rate);
    }

    pub(super) fn max(&self) -> f64 {
        self.spans.iter().copied().fold(0.0, f64::max)
    }

    /// A round trip ended in which the window was used: begins the next span if it is time.
    pub(super) fn advance(&mut self, now: Instant, round_trip: Duration) {
        if now.saturating_duration_since(self.began) >= SPAN.max(round_trip) {
            self.began = now;
            self.current = (self.current + 1) % SPANS;
            self.spans[self.current] = 0.0;
        }
    }
}
