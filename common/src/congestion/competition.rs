//! Whose the queue is: now and then it is drained to see, and where others keep it full, a share of it is taken.

use std::time::{Duration, Instant};

use super::{
    limits::{TARGET, WIDEST},
    min_rtt::MinRtt,
};

/// After so long without a round trip as short as the shortest, the queue is drained to see whether it still holds.
const ROUND_TRIP_AGE: Duration = Duration::from_secs(10);

/// While others are thought to keep the queue full, it is drained as often to see whether they do, and what was the
/// shortest round trip before they came counts for so long.
const CROWD_AGE: Duration = Duration::from_secs(5);
const CROWDED_ROUND_TRIP_AGE: Duration = Duration::from_secs(60);

/// Round trips with the least headroom and a queue nevertheless, after which the queue seems to be somebody else's.
const CROWDED: u32 = 4;

/// After so many drains that left nothing, the others are gone; TCP leaves nothing for a while each time it has lost.
const DESERTED: u32 = 3;

/// A queue that is back so soon after it was drained is not ours: somebody takes whatever we leave.
const BACK_SOON: Duration = Duration::from_secs(5);

/// Round trips for which one queue that overflowed is felt.
const HURTS: u32 = 3;

/// A share that has grown so many times, and to so many packets, while no round trip became longer, is of no queue: the
/// path has become longer.
const LONGER: u64 = 8;
const LONGER_PACKETS: u64 = 64;

/// Round trips that a drain takes: the queue is gone after the first or second.
const DRAINED: u32 = 3;

/// Who else is on the path, as far as is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Competition {
    /// Round trips in a row for which a queue stood that seems not to be ours.
    rounds: u32,
    drain: Option<Drain>,
    /// The last drain that left nothing though a queue had stood: when, and what was under way before.
    in_vain: Option<(Instant, u64)>,
    competitive_window: Option<CompetitiveWindow>,
}

/// The window for a share of a queue that others keep full.
#[derive(Clone, Copy, Debug)]
struct CompetitiveWindow {
    bytes: u64,
    /// When it was drained last, and how often in a row nothing was left then.
    at: Instant,
    empty: u32,
    /// Round trips since it was made smaller.
    unhurt: u32,
    rise: Option<Rise>,
}

/// A new share grows by a quarter with each round trip, for as long as nobody seems to mind.
#[derive(Clone, Copy, Debug)]
struct Rise {
    /// The shortest round trip when it began and since.
    min_rtt: Duration,
    /// The share when it began.
    from: u64,
    /// The last round trip was longer: twice in a row is no chance.
    minded: bool,
}

/// What a round trip has shown of the path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// It may carry less than it did.
    Slower,
    /// What seemed a queue is none: its shortest round trip is this one.
    Longer(MinRtt),
}

/// A queue is being drained: first until what left before is through, then for one round trip that shows the path itself.
#[derive(Clone, Copy, Debug)]
struct Drain {
    rounds: u32,
    /// Bytes that were under way before.
    held: u64,
    min_rtt: Duration,
    /// A queue stood that seems to be somebody else's.
    crowded: bool,
}

/// A round trip that was filled, for whoever asks whose its queue was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filled {
    /// A queue stood though the window left none.
    pub(super) crowded: bool,
    /// The shortest round trip in it.
    pub(super) min_rtt: Duration,
    /// More was lost than usual.
    pub(super) lost: bool,
    /// So much was lost that there is no room.
    pub(super) flooded: bool,
    /// Bytes under way.
    pub(super) held: u64,
}

impl Competition {
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Bytes that may be under way for the sake of a share.
    pub(super) fn competitive_window(&self) -> u64 {
        self.competitive_window
            .map_or(0, |competitive_window| competitive_window.bytes)
    }

    pub(super) fn see_round_trip(&mut self, round_trip: Duration) {
        if let Some(drain) = &mut self.drain {
            drain.min_rtt = drain.min_rtt.min(round_trip);
        }
    }

    /// Takes a share of a queue that is somebody else's, or begins to drain it to see.
    pub(super) fn round_ends(
        &mut self,
        now: Instant,
        filled: Filled,
        known: MinRtt,
        mtu: u64,
    ) -> Option<Change> {
        self.rounds = if filled.crowded { self.rounds + 1 } else { 0 };
        match &mut self.competitive_window {
            Some(CompetitiveWindow { rise: Some(_), .. }) => return self.rise_goes_on(now, filled, mtu),
            Some(competitive_window) if now.saturating_duration_since(competitive_window.at) > CROWD_AGE => {
                self.begin_drain(filled.held, true);
            }
            Some(competitive_window) if filled.lost && competitive_window.unhurt >= HURTS => {
                competitive_window.unhurt = 0;
                competitive_window.bytes = competitive_window.bytes * 7 / 10;
            }
            Some(competitive_window) => {
                competitive_window.unhurt += 1;
                competitive_window.bytes += mtu.max(competitive_window.bytes / 200);
            }
            None if self.rounds == CROWDED => {
                self.begin_drain(filled.held, true);
                return Some(Change::Slower);
            }
            None if now.saturating_duration_since(known.at) > ROUND_TRIP_AGE => {
                self.begin_drain(filled.held, false);
            }
            None => {}
        }
        None
    }

    fn rise_goes_on(&mut self, now: Instant, filled: Filled, mtu: u64) -> Option<Change> {
        let competitive_window = self.competitive_window.as_mut()?;
        let rise = competitive_window.rise.as_mut()?;
        let minded = rise.min_rtt + (2 * TARGET).max(rise.min_rtt / 8);
        let is_minded = filled.min_rtt > minded;
        let was_minded = std::mem::replace(&mut rise.minded, is_minded);
        if filled.flooded || was_minded && is_minded {
            competitive_window.bytes = rise.from;
            competitive_window.rise = None;
            return None;
        }
        rise.min_rtt = rise.min_rtt.min(filled.min_rtt);
        if competitive_window.bytes < (LONGER * rise.from).max(LONGER_PACKETS * mtu).min(WIDEST) {
            competitive_window.bytes =
                (competitive_window.bytes + (competitive_window.bytes / 4).max(mtu)).min(WIDEST);
            return None;
        }
        let min_rtt = MinRtt {
            round_trip: rise.min_rtt,
            at: now,
        };
        self.competitive_window = None;
        self.rounds = 0;
        Some(Change::Longer(min_rtt))
    }

    fn begin_drain(&mut self, held: u64, crowded: bool) {
        self.drain = Some(Drain {
            rounds: 0,
            held,
            min_rtt: Duration::MAX,
            crowded,
        });
    }

    /// A round trip of a drain has ended. Gives the shortest round trip that counts from now on, if the drain has shown
    /// another. `target` is how long a queue may stand.
    pub(super) fn drain_goes_on(&mut self, now: Instant, known: MinRtt, target: Duration) -> Option<MinRtt> {
        let drain = self.drain.as_mut()?;
        drain.rounds += 1;
        if drain.rounds < DRAINED {
            return None;
        }
        let drain = *drain;
        self.drain = None;
        self.rounds = 0;
        let stands = drain.min_rtt > known.round_trip + 2 * target;
        let (bytes, empty) = match (self.competitive_window, self.in_vain.take()) {
            (Some(competitive_window), _) if stands => (competitive_window.bytes, 0),
            (Some(competitive_window), _) => (competitive_window.bytes, competitive_window.empty + 1),
            (None, _) if stands => (drain.held, 0),
            (None, Some((at, held))) if now.saturating_duration_since(at) < BACK_SOON => {
                (held.max(drain.held), 0)
            }
            (None, _) => {
                self.in_vain = drain.crowded.then_some((now, drain.held));
                (drain.held, DESERTED)
            }
        };
        let rise = (self.competitive_window.is_none() || stands).then_some(Rise {
            min_rtt: drain.min_rtt,
            from: bytes,
            minded: false,
        });
        self.competitive_window = (drain.crowded && empty < DESERTED).then_some(CompetitiveWindow {
            bytes,
            at: now,
            empty,
            unhurt: 0,
            rise,
        });
        let recent = now.saturating_duration_since(known.at) < CROWDED_ROUND_TRIP_AGE;
        (!recent || !drain.crowded).then_some(MinRtt {
            round_trip: drain.min_rtt,
            at: now,
        })
    }
}
