//! How many bytes may be under way.

use std::time::{Duration, Instant};

use super::{
    crowd::{Change, Crowd, Filled},
    delivery::Sample,
    rates::Rates,
};

/// Packets before anything is known: as many as TCP sends (RFC 6928), and as few as are of use later.
const FIRST: u64 = 10;
const FEWEST: u64 = 4;

/// Bytes of the widest window: 1 Gbit/s at half a second.
pub(super) const WIDEST: u64 = 64 * 1024 * 1024;

/// A queue that stands for a whole round trip is wished to be so long, or this part of the round trip.
pub(super) const TARGET: Duration = Duration::from_millis(2);
const TARGET_PART: u32 = 20;

/// or of so many packets.
const TARGET_PACKETS: u64 = 4;

/// What is under way beyond what the path holds, at most beyond a round trip.
const MOST_HEADROOM: Duration = Duration::from_millis(100);

/// Loss that is no accident, as a part of what was sent in a round trip.
const LOSSY: f64 = 0.02;

/// More of that than usual, where a queue is full: it is the queue's.
const BY_ACCIDENT: f64 = 0.001;

/// Most that the window is widened for what is lost by accident.
const MOST_WIDER: f64 = 0.1;

/// Batches of acknowledgements of which none came soon, after which the first ramp is over.
const LATE: u32 = 12;

/// How often what the window is widened by doubles while there is no queue.
const MOST_STEPS: u32 = 8;

/// Where much is lost, more is tried each so many round trips.
const PROBE: u32 = 16;

/// Packets lost in a round trip of the ramp, and an eighth of the window at least, that end it too.
const RAMP_LOSS: u64 = 32;

/// The window of a path.
#[derive(Clone, Debug)]
pub(super) struct Window {
    mtu: u64,
    bytes: u64,
    rates: Rates,
    shortest: Option<Shortest>,
    /// What may be under way beyond what the path holds, as the time that it takes.
    headroom: Duration,
    /// Part of what is sent that is lost, smoothed, and what the window is widened for it.
    loss: f64,
    wider: f64,
    /// The window still doubles with each round trip.
    ramp: Option<Ramp>,
    round: Round,
    /// Round trips since a queue stood: in which little was lost, and much.
    calm: u32,
    lossy: u32,
    crowd: Crowd,
    /// A round trip was filled once: what is known is the path, and not only what was sent.
    filled: bool,
}

/// The shortest round trip, and when it was seen last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shortest {
    pub(super) round_trip: Duration,
    pub(super) at: Instant,
}

/// What a round trip has shown so far.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Ends when a packet arrives that left after so much had been delivered.
    ends: u64,
    /// The fastest rate known when it began, and the fastest it has seen.
    rate_before: f64,
    fastest: f64,
    shortest: Duration,
    lost: u64,
    starved: bool,
}

/// What a round trip that was filled says of the path.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// How long the queue was that never was shorter, and is wished to be.
    standing: Duration,
    target: Duration,
    lossy: bool,
    /// Much more was lost than usual.
    worse: bool,
    /// The rate was higher, or lower, than any that was known.
    grew: bool,
    slower: bool,
}

/// The last batches of acknowledgements while the window doubles.
#[derive(Clone, Copy, Debug, Default)]
struct Ramp {
    /// Of so many, each came late.
    late: u32,
    /// Round trips that brought no higher rate.
    level: u32,
}

impl Window {
    pub(super) fn new(now: Instant, mtu: u64) -> Self {
        Self {
            mtu,
            bytes: FIRST * mtu,
            rates: Rates::new(now),
            shortest: None,
            headroom: Duration::ZERO,
            loss: 0.0,
            wider: 0.0,
            ramp: Some(Ramp::default()),
            round: Round::new(0, 0.0),
            lossy: 0,
            calm: 0,
            crowd: Crowd::default(),
            filled: false,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the largest packet.
    pub(super) fn packet(&self) -> u64 {
        self.mtu
    }

    pub(super) fn initial(&self) -> u64 {
        FIRST * self.mtu
    }

    pub(super) fn set_mtu(&mut self, mtu: u64) {
        self.mtu = mtu;
        self.bytes = self.bytes.max(FEWEST * mtu);
    }

    pub(super) fn lost(&mut self, bytes: u64, persistent: bool) {
        self.round.lost += bytes;
        if self.ramp.is_some() && self.round.lost > (self.bytes / 8).max(RAMP_LOSS * self.mtu) {
            self.ramp = None;
            self.headroom = Duration::ZERO;
        }
        if persistent {
            // Nothing that was known need hold for what comes now.
            self.rates.forget();
            self.headroom = self
                .shortest
                .map_or(Duration::ZERO, |shortest| shortest.round_trip);
            self.loss = 0.0;
            self.wider = 0.0;
            self.ramp = Some(Ramp::default());
            self.crowd = Crowd::default();
            self.filled = false;
            self.bytes = FEWEST * self.mtu;
        }
    }

    pub(super) fn take(&mut self, now: Instant, sample: &Sample) {
        let shortest = self.see_round_trip(now, sample.round_trip);
        // In less than a round trip, what arrives at once looks like a rate.
        if sample.interval >= shortest {
            self.rates.see(sample.rate);
            self.round.fastest = self.round.fastest.max(sample.rate);
        }
        self.round.shortest = self.round.shortest.min(sample.round_trip);
        self.round.starved |= sample.starved;
        if let Some(ramp) = &mut self.ramp
            && !sample.starved
        {
            let late = sample.round_trip > shortest + (2 * TARGET).max(shortest / 8);
            ramp.late = if late { ramp.late + 1 } else { 0 };
            if ramp.late == LATE {
                self.ramp = None;
                self.headroom = self.target(shortest) / 2;
            }
        }
        if sample.delivered_before >= self.round.ends {
            let next = Round::new(sample.delivered, self.rates.fastest());
            let round = std::mem::replace(&mut self.round, next);
            self.round_ends(now, &round, sample.delivered);
        }
        self.settle();
    }

    fn see_round_trip(&mut self, now: Instant, round_trip: Duration) -> Duration {
        let seen = Shortest { round_trip, at: now };
        self.crowd.see_round_trip(round_trip);
        match &mut self.shortest {
            None => {
                self.shortest = Some(seen);
                self.headroom = round_trip;
                round_trip
            }
            Some(shortest) if round_trip <= shortest.round_trip => {
                *shortest = seen;
                round_trip
            }
            Some(shortest) => shortest.round_trip,
        }
    }

    fn round_ends(&mut self, now: Instant, round: &Round, delivered: u64) {
        let Some(shortest) = self.shortest else { return };
        let arrived = delivered.saturating_sub(round.ends);
        let lost = round.lost as f64 / (arrived + round.lost).max(1) as f64;
        let usual_loss = self.loss;
        self.loss += (lost - self.loss) / 8.0;
        let target = self.target(shortest.round_trip);
        if self.crowd.is_draining() {
            let shown = self.crowd.drain_goes_on(now, shortest, target);
            self.shortest = shown.or(self.shortest);
            return;
        }
        if round.starved {
            return;
        }
        self.filled = true;
        self.rates.advance(now, shortest.round_trip);
        let seen = Seen {
            standing: round.shortest.saturating_sub(shortest.round_trip),
            target,
            lossy: lost > LOSSY,
            worse: lost > usual_loss * 1.5 + LOSSY,
            grew: round.fastest > round.rate_before * 1.1,
            slower: round.fastest < round.rate_before * 0.97,
        };
        if self.ramp.is_some() {
            self.ramp_goes_on(&seen);
            return;
        }
        // So few packets are no rate to tell a queue by.
        let is_least =
            self.bytes <= 2 * FEWEST * self.mtu && seen.standing > shortest.round_trip.max(4 * TARGET);
        let filled = Filled {
            crowded: self.headroom <= target / 2 && seen.standing > target + target / 2 || is_least,
            shortest: round.shortest,
            lost: lost > usual_loss + BY_ACCIDENT,
            flooded: round.lost > (arrived / 8).max(4 * self.mtu),
            held: (self.rates.fastest() * round.shortest.as_secs_f64()) as u64,
        };
        self.adapt(&seen, shortest.round_trip);
        match self.crowd.round_ends(now, filled, shortest, self.mtu) {
            Some(Change::Slower) => self.rates.forget_all_but_latest(),
            Some(Change::Longer(shortest)) => {
                self.shortest = Some(shortest);
                self.headroom = shortest.round_trip;
                self.ramp = Some(Ramp::default());
            }
            None => {}
        }
    }

    fn ramp_goes_on(&mut self, seen: &Seen) {
        if let Some(ramp) = &mut self.ramp {
            ramp.level = if seen.grew { 0 } else { ramp.level + 1 };
            if ramp.level == 3 || ramp.level == 1 && seen.lossy {
                self.ramp = None;
                self.headroom = seen.target / 2;
            }
        }
    }

    /// Follows the queue that stands: there should be one, and a short one.
    fn adapt(&mut self, seen: &Seen, shortest: Duration) {
        let least = seen.target / 2;
        let is_calm = seen.standing < least;
        if !is_calm {
            (self.calm, self.lossy) = (0, 0);
        } else if seen.lossy {
            self.lossy += 1;
        } else {
            self.calm += 1;
        }
        if seen.lossy && is_calm && (seen.grew && !seen.worse || self.lossy.is_multiple_of(PROBE)) {
            // What is lost says nothing of whether there is room.
            self.headroom = self.headroom.max(shortest / 4);
        } else if seen.lossy {
            self.headroom /= 4;
            self.calm /= 2;
        } else if seen.standing > seen.target {
            let less = self.headroom.saturating_sub((seen.standing - seen.target) / 2);
            self.headroom = less.max(self.headroom.min(least));
        } else if is_calm {
            // There is room, and after some round trips probably much.
            self.headroom += least / 16 * (1 << self.calm.min(MOST_STEPS));
        }
        self.headroom = self.headroom.min(shortest + MOST_HEADROOM);
        self.wider = if seen.lossy && seen.slower && seen.standing < seen.target {
            (self.wider + 0.02).min(MOST_WIDER)
        } else {
            self.wider * 0.9
        };
    }

    /// How long a queue may stand.
    fn target(&self, shortest: Duration) -> Duration {
        TARGET
            .max(shortest / TARGET_PART)
            .max(self.lasts(TARGET_PACKETS * self.mtu))
    }

    /// How long so many bytes take.
    fn lasts(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64((bytes as f64 / self.rates.fastest().max(1.0)).min(1.0))
    }

    fn settle(&mut self) {
        let Some(shortest) = self.shortest else { return };
        let rate = self.rates.fastest();
        let holds = rate * shortest.round_trip.as_secs_f64();
        let least = if self.filled { FEWEST } else { FIRST } * self.mtu;
        self.bytes = if self.crowd.is_draining() {
            ((holds * 0.75) as u64).max(2 * self.mtu + 1)
        } else {
            let wide = (holds + rate * self.headroom.as_secs_f64()) * (1.0 + self.wider);
            (wide as u64 + 3 * self.mtu)
                .max(self.crowd.share())
                .clamp(least, WIDEST)
        };
    }
}

impl Round {
    fn new(ends: u64, rate_before: f64) -> Self {
        Self {
            ends,
            rate_before,
            fastest: 0.0,
            shortest: Duration::MAX,
            lost: 0,
            starved: false,
        }
    }
}
