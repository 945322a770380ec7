//! Competitive mode: drains the queue periodically to learn whether other flows fill it; if they do, takes a Reno-like share.

use std::time::{Duration, Instant};

use super::{
    limits::{MAX_WINDOW, TARGET_QUEUE},
    min_rtt::MinRtt,
};

/// Age of the minimum round-trip time after which the queue is drained to measure it again.
const MIN_RTT_AGE: Duration = Duration::from_secs(10);

/// In competitive mode, the queue is drained at this interval to learn whether the other flows are still there,
const DRAIN_INTERVAL: Duration = Duration::from_secs(5);

/// and the minimum round-trip time from before stays valid for so long.
const CONTENDED_MIN_RTT_AGE: Duration = Duration::from_secs(60);

/// Round trips in a row with a standing queue in spite of minimal headroom, after which other flows seem to fill it.
const CONTENDED: u32 = 4;

/// Drains in a row that left an empty queue, after which the other flows are gone. One is not enough: after a loss, TCP leaves
/// the queue empty for a while.
const ALONE: u32 = 3;

/// A queue that is back so soon after a drain belongs to other flows, which take whatever is free.
const REFILLED_WITHIN: Duration = Duration::from_secs(5);

/// Round trips for which one overflow of the queue causes loss: the window is cut once in that time.
const OVERFLOW_LASTS: u32 = 3;

/// When the window has grown by this factor, and to so many packets, while the round-trip time stayed the same, there is no
/// queue: the path has become longer.
const LONGER_FACTOR: u64 = 8;
const LONGER_PACKETS: u64 = 64;

/// Round trips that a drain takes: the queue is empty after the first or second.
const DRAIN_ROUNDS: u32 = 3;

/// Detects flows that keep the queue full, and holds the window to compete with them.
#[derive(Clone, Debug, Default)]
pub(super) struct Competition {
    /// Round trips in a row with a queue that seems to be filled by other flows.
    contended_rounds: u32,
    drain: Option<Drain>,
    /// The last drain that left an empty queue although one had stood: when, and bytes in flight before it.
    last_empty: Option<(Instant, u64)>,
    competitive_window: Option<CompetitiveWindow>,
}

/// The window while other flows keep the queue full.
#[derive(Clone, Copy, Debug)]
struct CompetitiveWindow {
    bytes: u64,
    /// When the queue was drained last, and how often in a row it was empty then.
    drained_at: Instant,
    empty_drains: u32,
    /// Round trips since the window was cut.
    since_cut: u32,
    growth: Option<Growth>,
}

/// The beginning of competitive mode: the window grows by a quarter each round trip until the round-trip time rises.
#[derive(Clone, Copy, Debug)]
struct Growth {
    /// The minimum round-trip time when it began and since.
    min_rtt: Duration,
    /// The window when it began.
    from: u64,
    /// The last round trip was longer. Twice in a row is not by chance.
    was_longer: bool,
}

/// A change of the path that a round trip has shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum PathChange {
    /// Its bandwidth may be lower than before.
    Slower,
    /// It is longer: this is its minimum round-trip time, and what seemed a queue is none.
    Longer(MinRtt),
}

/// The queue is being drained: first until everything sent before is delivered, then for a round trip that measures the path.
#[derive(Clone, Copy, Debug)]
struct Drain {
    rounds: u32,
    /// Bytes in flight before.
    in_flight: u64,
    min_rtt: Duration,
    /// Other flows seem to fill the queue.
    contended: bool,
}

/// A round trip in which the window was used up.
#[derive(Clone, Copy, Debug)]
pub(super) struct FullRound {
    /// There was a standing queue in spite of minimal headroom.
    pub(super) contended: bool,
    /// The minimum round-trip time in it.
    pub(super) min_rtt: Duration,
    /// The loss rate was higher than usual.
    pub(super) lost: bool,
    /// So much was lost that the queue must have overflowed.
    pub(super) overflowed: bool,
    /// Bytes in flight.
    pub(super) in_flight: u64,
}

impl Competition {
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// The window of competitive mode in bytes; 0 in normal mode.
    pub(super) fn competitive_window(&self) -> u64 {
        self.competitive_window.map_or(0, |window| window.bytes)
    }

    pub(super) fn on_round_trip(&mut self, round_trip: Duration) {
        if let Some(drain) = &mut self.drain {
            drain.min_rtt = drain.min_rtt.min(round_trip);
        }
    }

    /// A round trip ended: adjusts the competitive window, or begins to drain the queue.
    pub(super) fn end_round(
        &mut self,
        now: Instant,
        round: FullRound,
        known: MinRtt,
        mtu: u64,
    ) -> Option<PathChange> {
        self.contended_rounds = if round.contended {
            self.contended_rounds + 1
        } else {
            0
        };
        match &mut self.competitive_window {
            Some(CompetitiveWindow { growth: Some(_), .. }) => return self.continue_growth(now, round, mtu),
            Some(window) if now.saturating_duration_since(window.drained_at) > DRAIN_INTERVAL => {
                self.begin_drain(round.in_flight, true);
            }
            Some(window) if round.lost && window.since_cut >= OVERFLOW_LASTS => {
                window.since_cut = 0;
                window.bytes = window.bytes * 7 / 10;
            }
            Some(window) => {
                window.since_cut += 1;
                window.bytes += mtu.max(window.bytes / 200);
            }
            None if self.contended_rounds == CONTENDED => {
                self.begin_drain(round.in_flight, true);
                return Some(PathChange::Slower);
            }
            None if now.saturating_duration_since(known.at) > MIN_RTT_AGE => {
                self.begin_drain(round.in_flight, false);
            }
            None => {}
        }
        None
    }

    fn continue_growth(&mut self, now: Instant, round: FullRound, mtu: u64) -> Option<PathChange> {
        let window = self.competitive_window.as_mut()?;
        let growth = window.growth.as_mut()?;
        let limit = growth.min_rtt + (2 * TARGET_QUEUE).max(growth.min_rtt / 8);
        let is_longer = round.min_rtt > limit;
        let was_longer = std::mem::replace(&mut growth.was_longer, is_longer);
        if round.overflowed || was_longer && is_longer {
            window.bytes = growth.from;
            window.growth = None;
            return None;
        }
        growth.min_rtt = growth.min_rtt.min(round.min_rtt);
        if window.bytes
            < (LONGER_FACTOR * growth.from)
                .max(LONGER_PACKETS * mtu)
                .min(MAX_WINDOW)
        {
            window.bytes = (window.bytes + (window.bytes / 4).max(mtu)).min(MAX_WINDOW);
            return None;
        }
        let min_rtt = MinRtt {
            round_trip: growth.min_rtt,
            at: now,
        };
        self.competitive_window = None;
        self.contended_rounds = 0;
        Some(PathChange::Longer(min_rtt))
    }

    fn begin_drain(&mut self, in_flight: u64, contended: bool) {
        self.drain = Some(Drain {
            rounds: 0,
            in_flight,
            min_rtt: Duration::MAX,
            contended,
        });
    }

    /// A round trip of a drain ended. Returns the minimum round-trip time if the drain has measured it anew. `target` is the
    /// target queue.
    pub(super) fn continue_drain(&mut self, now: Instant, known: MinRtt, target: Duration) -> Option<MinRtt> {
        let drain = self.drain.as_mut()?;
        drain.rounds += 1;
        if drain.rounds < DRAIN_ROUNDS {
            return None;
        }
        let drain = *drain;
        self.drain = None;
        self.contended_rounds = 0;
        let has_queue = drain.min_rtt > known.round_trip + 2 * target;
        let (bytes, empty_drains) = match (self.competitive_window, self.last_empty.take()) {
            (Some(window), _) if has_queue => (window.bytes, 0),
            (Some(window), _) => (window.bytes, window.empty_drains + 1),
            (None, _) if has_queue => (drain.in_flight, 0),
            (None, Some((at, in_flight))) if now.saturating_duration_since(at) < REFILLED_WITHIN => {
                (in_flight.max(drain.in_flight), 0)
            }
            (None, _) => {
                self.last_empty = drain.contended.then_some((now, drain.in_flight));
                (drain.in_flight, ALONE)
            }
        };
        let growth = (self.competitive_window.is_none() || has_queue).then_some(Growth {
            min_rtt: drain.min_rtt,
            from: bytes,
            was_longer: false,
        });
        self.competitive_window = (drain.contended && empty_drains < ALONE).then_some(CompetitiveWindow {
            bytes,
            drained_at: now,
            empty_drains,
            since_cut: 0,
            growth,
        });
        let recent = now.saturating_duration_since(known.at) < CONTENDED_MIN_RTT_AGE;
        (!recent || !drain.contended).then_some(MinRtt {
            round_trip: drain.min_rtt,
            at: now,
        })
    }
}
