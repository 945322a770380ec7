//! How many bytes may be under way.

use std::time::{Duration, Instant};

use super::{
    bandwidth_filter::BandwidthFilter,
    competition::{Change, Competition, Filled},
    delivery::Sample,
    limits::{TARGET, WIDEST},
    min_rtt::MinRtt,
};

/// Packets before anything is known: as many as TCP sends (RFC 6928), and as few as are of use later.
const FIRST: u64 = 10;
const FEWEST: u64 = 4;

/// The standing queue aimed at, as a part of the round-trip time; at least [`TARGET`],
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

/// Batches of acknowledgements of which none came soon, after which the startup is over.
const LATE: u32 = 12;

/// How often what the window is widened by doubles while there is no queue.
const MOST_STEPS: u32 = 8;

/// Where much is lost, more is tried each so many round trips.
const PROBE: u32 = 16;

/// Packets lost in a round trip of startup, and an eighth of the window at least, that end it too.
const STARTUP_LOSS: u64 = 32;

/// The window of a path.
#[derive(Clone, Debug)]
pub(super) struct Window {
    mtu: u64,
    bytes: u64,
    bandwidth: BandwidthFilter,
    min_rtt: Option<MinRtt>,
    /// What may be under way beyond what the path holds, as the time that it takes.
    headroom: Duration,
    /// Part of what is sent that is lost, smoothed, and what the window is widened for it.
    loss: f64,
    wider: f64,
    /// The window still doubles with each round trip.
    startup: Option<Startup>,
    round: Round,
    /// Round trips since a queue stood: in which little was lost, and much.
    calm: u32,
    lossy: u32,
    competition: Competition,
    /// A round trip was filled once: what is known is the path, and not only what was sent.
    filled: bool,
}

/// What a round trip has shown so far.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Ends when a packet arrives that left after so much had been delivered.
    ends: u64,
    /// The fastest rate known when it began, and the fastest it has seen.
    rate_before: f64,
    fastest: f64,
    min_rtt: Duration,
    lost: u64,
    app_limited: bool,
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
struct Startup {
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
            bandwidth: BandwidthFilter::new(now),
            min_rtt: None,
            headroom: Duration::ZERO,
            loss: 0.0,
            wider: 0.0,
            startup: Some(Startup::default()),
            round: Round::new(0, 0.0),
            lossy: 0,
            calm: 0,
            competition: Competition::default(),
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
        if self.startup.is_some() && self.round.lost > (self.bytes / 8).max(STARTUP_LOSS * self.mtu) {
            self.startup = None;
            self.headroom = Duration::ZERO;
        }
        if persistent {
            // Nothing that was known need hold for what comes now.
            self.bandwidth.forget();
            self.headroom = self.min_rtt.map_or(Duration::ZERO, |min_rtt| min_rtt.round_trip);
            self.loss = 0.0;
            self.wider = 0.0;
            self.startup = Some(Startup::default());
            self.competition = Competition::default();
            self.filled = false;
            self.bytes = FEWEST * self.mtu;
        }
    }

    pub(super) fn take(&mut self, now: Instant, sample: &Sample) {
        let min_rtt = self.see_round_trip(now, sample.round_trip);
        // In less than a round trip, what arrives at once looks like a rate.
        if sample.interval >= min_rtt {
            self.bandwidth.see(sample.rate);
            self.round.fastest = self.round.fastest.max(sample.rate);
        }
        self.round.min_rtt = self.round.min_rtt.min(sample.round_trip);
        self.round.app_limited |= sample.app_limited;
        if let Some(startup) = &mut self.startup
            && !sample.app_limited
        {
            let late = sample.round_trip > min_rtt + (2 * TARGET).max(min_rtt / 8);
            startup.late = if late { startup.late + 1 } else { 0 };
            if startup.late == LATE {
                self.startup = None;
                self.headroom = self.target(min_rtt) / 2;
            }
        }
        if sample.delivered_before >= self.round.ends {
            let next = Round::new(sample.delivered, self.bandwidth.fastest());
            let round = std::mem::replace(&mut self.round, next);
            self.round_ends(now, &round, sample.delivered);
        }
        self.settle();
    }

    fn see_round_trip(&mut self, now: Instant, round_trip: Duration) -> Duration {
        let seen = MinRtt { round_trip, at: now };
        self.competition.see_round_trip(round_trip);
        match &mut self.min_rtt {
            None => {
                self.min_rtt = Some(seen);
                self.headroom = round_trip;
                round_trip
            }
            Some(min_rtt) if round_trip <= min_rtt.round_trip => {
                *min_rtt = seen;
                round_trip
            }
            Some(min_rtt) => min_rtt.round_trip,
        }
    }

    fn round_ends(&mut self, now: Instant, round: &Round, delivered: u64) {
        let Some(min_rtt) = self.min_rtt else { return };
        let arrived = delivered.saturating_sub(round.ends);
        let lost = round.lost as f64 / (arrived + round.lost).max(1) as f64;
        let usual_loss = self.loss;
        self.loss += (lost - self.loss) / 8.0;
        let target = self.target(min_rtt.round_trip);
        if self.competition.is_draining() {
            let shown = self.competition.drain_goes_on(now, min_rtt, target);
            self.min_rtt = shown.or(self.min_rtt);
            return;
        }
        if round.app_limited {
            return;
        }
        self.filled = true;
        self.bandwidth.advance(now, min_rtt.round_trip);
        let seen = Seen {
            standing: round.min_rtt.saturating_sub(min_rtt.round_trip),
            target,
            lossy: lost > LOSSY,
            worse: lost > usual_loss * 1.5 + LOSSY,
            grew: round.fastest > round.rate_before * 1.1,
            slower: round.fastest < round.rate_before * 0.97,
        };
        if self.startup.is_some() {
            self.startup_continues(&seen);
            return;
        }
        // So few packets are no rate to tell a queue by.
        let is_least =
            self.bytes <= 2 * FEWEST * self.mtu && seen.standing > min_rtt.round_trip.max(4 * TARGET);
        let filled = Filled {
            crowded: self.headroom <= target / 2 && seen.standing > target + target / 2 || is_least,
            min_rtt: round.min_rtt,
            lost: lost > usual_loss + BY_ACCIDENT,
            flooded: round.lost > (arrived / 8).max(4 * self.mtu),
            held: (self.bandwidth.fastest() * round.min_rtt.as_secs_f64()) as u64,
        };
        self.adapt(&seen, min_rtt.round_trip);
        match self.competition.round_ends(now, filled, min_rtt, self.mtu) {
            Some(Change::Slower) => self.bandwidth.forget_all_but_latest(),
            Some(Change::Longer(min_rtt)) => {
                self.min_rtt = Some(min_rtt);
                self.headroom = min_rtt.round_trip;
                self.startup = Some(Startup::default());
            }
            None => {}
        }
    }

    fn startup_continues(&mut self, seen: &Seen) {
        if let Some(startup) = &mut self.startup {
            startup.level = if seen.grew { 0 } else { startup.level + 1 };
            if startup.level == 3 || startup.level == 1 && seen.lossy {
                self.startup = None;
                self.headroom = seen.target / 2;
            }
        }
    }

    /// Follows the queue that stands: there should be one, and a short one.
    fn adapt(&mut self, seen: &Seen, min_rtt: Duration) {
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
            self.headroom = self.headroom.max(min_rtt / 4);
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
        self.headroom = self.headroom.min(min_rtt + MOST_HEADROOM);
        self.wider = if seen.lossy && seen.slower && seen.standing < seen.target {
            (self.wider + 0.02).min(MOST_WIDER)
        } else {
            self.wider * 0.9
        };
    }

    /// How long a queue may stand.
    fn target(&self, min_rtt: Duration) -> Duration {
        TARGET
            .max(min_rtt / TARGET_PART)
            .max(self.lasts(TARGET_PACKETS * self.mtu))
    }

    /// How long so many bytes take.
    fn lasts(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64((bytes as f64 / self.bandwidth.fastest().max(1.0)).min(1.0))
    }

    fn settle(&mut self) {
        let Some(min_rtt) = self.min_rtt else { return };
        let rate = self.bandwidth.fastest();
        let holds = rate * min_rtt.round_trip.as_secs_f64();
        let least = if self.filled { FEWEST } else { FIRST } * self.mtu;
        self.bytes = if self.competition.is_draining() {
            ((holds * 0.75) as u64).max(2 * self.mtu + 1)
        } else {
            let wide = (holds + rate * self.headroom.as_secs_f64()) * (1.0 + self.wider);
            (wide as u64 + 3 * self.mtu)
                .max(self.competition.competitive_window())
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
            min_rtt: Duration::MAX,
            lost: 0,
            app_limited: false,
        }
    }
}
