//! The congestion window: bandwidth times minimum round-trip time, plus headroom that keeps a short standing queue.

use std::time::{Duration, Instant};

use super::{
    bandwidth_filter::BandwidthFilter,
    competition::{Competition, FullRound, PathChange},
    delivery::Sample,
    limits::{MAX_WINDOW, TARGET_QUEUE},
    min_rtt::MinRtt,
};

/// Packets of the initial window (RFC 6928), and of the smallest one.
const INITIAL: u64 = 10;
const MINIMUM: u64 = 4;

/// The target queue as a part of the round-trip time. It is at least [`TARGET_QUEUE`],
const TARGET_DIVISOR: u32 = 20;

/// and at least so many packets.
const TARGET_PACKETS: u64 = 4;

/// The largest headroom, beyond a round trip.
const MAX_HEADROOM: Duration = Duration::from_millis(100);

/// Loss rate of a round trip above which loss is taken as a sign of congestion.
const HIGH_LOSS: f64 = 0.02;

/// Loss rate above the usual one that counts as overflow of a full queue.
const EXCESS_LOSS: f64 = 0.001;

/// The largest compensation for random loss, as a part of the window.
const MAX_COMPENSATION: f64 = 0.1;

/// Batches of acknowledgements in a row with a longer round-trip time that end startup.
const LATE: u32 = 12;

/// How often the step of the headroom doubles while there is no queue.
const MAX_DOUBLINGS: u32 = 8;

/// Under high loss, a larger window is probed every so many round trips.
const LOSS_PROBE: u32 = 16;

/// Packets lost in a round trip that end startup, where they are an eighth of the window too.
const STARTUP_LOSS: u64 = 32;

/// The congestion window of a path.
#[derive(Clone, Debug)]
pub(super) struct Window {
    mtu: u64,
    bytes: u64,
    bandwidth: BandwidthFilter,
    min_rtt: Option<MinRtt>,
    /// Bytes in flight beyond the bandwidth-delay product, as the time that they take.
    headroom: Duration,
    /// Loss rate, smoothed, and the part by which the window is larger to compensate for random loss.
    loss: f64,
    compensation: f64,
    /// Startup: the window doubles each round trip.
    startup: Option<Startup>,
    round: Round,
    /// Round trips without a standing queue: those with little loss, and those with much.
    calm: u32,
    lossy: u32,
    competition: Competition,
    /// The window was used up for a round trip once, so what is known is the path and not only the application.
    was_full: bool,
}

/// What the current round trip has measured so far.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// It ends when a packet is acknowledged that was sent after so many bytes were delivered.
    ends: u64,
    /// The bandwidth known when it began, and the highest rate since.
    rate_before: f64,
    fastest: f64,
    min_rtt: Duration,
    lost: u64,
    app_limited: bool,
}

/// What a round trip in which the window was used up says about the path.
#[derive(Clone, Copy, Debug)]
struct RoundSummary {
    /// The standing queue (the shortest in that time) and the target, as times.
    queue: Duration,
    target: Duration,
    lossy: bool,
    /// The loss rate is much higher than usual.
    much_worse: bool,
    /// The rate was higher, or lower, than the known bandwidth.
    grew: bool,
    slower: bool,
}

/// What decides when startup ends.
#[derive(Clone, Copy, Debug, Default)]
struct Startup {
    /// Batches of acknowledgements in a row with a longer round-trip time.
    late: u32,
    /// Round trips in a row without a higher rate.
    flat: u32,
}

impl Window {
    pub(super) fn new(now: Instant, mtu: u64) -> Self {
        Self {
            mtu,
            bytes: INITIAL * mtu,
            bandwidth: BandwidthFilter::new(now),
            min_rtt: None,
            headroom: Duration::ZERO,
            loss: 0.0,
            compensation: 0.0,
            startup: Some(Startup::default()),
            round: Round::new(0, 0.0),
            lossy: 0,
            calm: 0,
            competition: Competition::default(),
            was_full: false,
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
        INITIAL * self.mtu
    }

    pub(super) fn set_mtu(&mut self, mtu: u64) {
        self.mtu = mtu;
        self.bytes = self.bytes.max(MINIMUM * mtu);
    }

    pub(super) fn lost(&mut self, bytes: u64, persistent: bool) {
        self.round.lost += bytes;
        if self.startup.is_some() && self.round.lost > (self.bytes / 8).max(STARTUP_LOSS * self.mtu) {
            self.startup = None;
            self.headroom = Duration::ZERO;
        }
        if persistent {
            // Persistent congestion: nothing measured before need hold now.
            self.bandwidth.clear();
            self.headroom = self.min_rtt.map_or(Duration::ZERO, |min_rtt| min_rtt.round_trip);
            self.loss = 0.0;
            self.compensation = 0.0;
            self.startup = Some(Startup::default());
            self.competition = Competition::default();
            self.was_full = false;
            self.bytes = MINIMUM * self.mtu;
        }
    }

    pub(super) fn on_sample(&mut self, now: Instant, sample: &Sample) {
        let min_rtt = self.on_round_trip(now, sample.round_trip);
        // Over less than a round trip, a burst looks like a high rate.
        if sample.interval >= min_rtt {
            self.bandwidth.add(sample.rate);
            self.round.fastest = self.round.fastest.max(sample.rate);
        }
        self.round.min_rtt = self.round.min_rtt.min(sample.round_trip);
        self.round.app_limited |= sample.app_limited;
        if let Some(startup) = &mut self.startup
            && !sample.app_limited
        {
            let late = sample.round_trip > min_rtt + (2 * TARGET_QUEUE).max(min_rtt / 8);
            startup.late = if late { startup.late + 1 } else { 0 };
            if startup.late == LATE {
                self.startup = None;
                self.headroom = self.target(min_rtt) / 2;
            }
        }
        if sample.delivered_before >= self.round.ends {
            let next = Round::new(sample.delivered, self.bandwidth.max());
            let round = std::mem::replace(&mut self.round, next);
            self.end_round(now, &round, sample.delivered);
        }
        self.update();
    }

    fn on_round_trip(&mut self, now: Instant, round_trip: Duration) -> Duration {
        let measured = MinRtt { round_trip, at: now };
        self.competition.on_round_trip(round_trip);
        match &mut self.min_rtt {
            None => {
                self.min_rtt = Some(measured);
                self.headroom = round_trip;
                round_trip
            }
            Some(min_rtt) if round_trip <= min_rtt.round_trip => {
                *min_rtt = measured;
                round_trip
            }
            Some(min_rtt) => min_rtt.round_trip,
        }
    }

    fn end_round(&mut self, now: Instant, round: &Round, delivered: u64) {
        let Some(min_rtt) = self.min_rtt else { return };
        let arrived = delivered.saturating_sub(round.ends);
        let lost = round.lost as f64 / (arrived + round.lost).max(1) as f64;
        let usual_loss = self.loss;
        self.loss += (lost - self.loss) / 8.0;
        let target = self.target(min_rtt.round_trip);
        if self.competition.is_draining() {
            let measured = self.competition.continue_drain(now, min_rtt, target);
            self.min_rtt = measured.or(self.min_rtt);
            return;
        }
        if round.app_limited {
            return;
        }
        self.was_full = true;
        self.bandwidth.advance(now, min_rtt.round_trip);
        let summary = RoundSummary {
            queue: round.min_rtt.saturating_sub(min_rtt.round_trip),
            target,
            lossy: lost > HIGH_LOSS,
            much_worse: lost > usual_loss * 1.5 + HIGH_LOSS,
            grew: round.fastest > round.rate_before * 1.1,
            slower: round.fastest < round.rate_before * 0.97,
        };
        if self.startup.is_some() {
            self.continue_startup(&summary);
            return;
        }
        // With so few packets in flight, the rate is too coarse to tell a queue by.
        let has_few_packets =
            self.bytes <= 2 * MINIMUM * self.mtu && summary.queue > min_rtt.round_trip.max(4 * TARGET_QUEUE);
        let full_round = FullRound {
            contended: self.headroom <= target / 2 && summary.queue > target + target / 2 || has_few_packets,
            min_rtt: round.min_rtt,
            lost: lost > usual_loss + EXCESS_LOSS,
            overflowed: round.lost > (arrived / 8).max(4 * self.mtu),
            in_flight: (self.bandwidth.max() * round.min_rtt.as_secs_f64()) as u64,
        };
        self.adapt(&summary, min_rtt.round_trip);
        match self.competition.end_round(now, full_round, min_rtt, self.mtu) {
            Some(PathChange::Slower) => self.bandwidth.keep_latest(),
            Some(PathChange::Longer(min_rtt)) => {
                self.min_rtt = Some(min_rtt);
                self.headroom = min_rtt.round_trip;
                self.startup = Some(Startup::default());
            }
            None => {}
        }
    }

    fn continue_startup(&mut self, summary: &RoundSummary) {
        if let Some(startup) = &mut self.startup {
            startup.flat = if summary.grew { 0 } else { startup.flat + 1 };
            if startup.flat == 3 || startup.flat == 1 && summary.lossy {
                self.startup = None;
                self.headroom = summary.target / 2;
            }
        }
    }

    /// Adjusts the headroom so that the standing queue approaches the target.
    fn adapt(&mut self, summary: &RoundSummary, min_rtt: Duration) {
        let least = summary.target / 2;
        let is_calm = summary.queue < least;
        if !is_calm {
            (self.calm, self.lossy) = (0, 0);
        } else if summary.lossy {
            self.lossy += 1;
        } else {
            self.calm += 1;
        }
        if summary.lossy
            && is_calm
            && (summary.grew && !summary.much_worse || self.lossy.is_multiple_of(LOSS_PROBE))
        {
            // Loss does not tell here whether there is room.
            self.headroom = self.headroom.max(min_rtt / 4);
        } else if summary.lossy {
            self.headroom /= 4;
            self.calm /= 2;
        } else if summary.queue > summary.target {
            let less = self.headroom.saturating_sub((summary.queue - summary.target) / 2);
            self.headroom = less.max(self.headroom.min(least));
        } else if is_calm {
            // There is room, and more likely much the longer it lasts.
            self.headroom += least / 16 * (1 << self.calm.min(MAX_DOUBLINGS));
        }
        self.headroom = self.headroom.min(min_rtt + MAX_HEADROOM);
        self.compensation = if summary.lossy && summary.slower && summary.queue < summary.target {
            (self.compensation + 0.02).min(MAX_COMPENSATION)
        } else {
            self.compensation * 0.9
        };
    }

    /// The target queue.
    fn target(&self, min_rtt: Duration) -> Duration {
        TARGET_QUEUE
            .max(min_rtt / TARGET_DIVISOR)
            .max(self.duration(TARGET_PACKETS * self.mtu))
    }

    /// How long the path takes for so many bytes.
    fn duration(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64((bytes as f64 / self.bandwidth.max().max(1.0)).min(1.0))
    }

    fn update(&mut self) {
        let Some(min_rtt) = self.min_rtt else { return };
        let rate = self.bandwidth.max();
        let bdp = rate * min_rtt.round_trip.as_secs_f64();
        let minimum = if self.was_full { MINIMUM } else { INITIAL } * self.mtu;
        self.bytes = if self.competition.is_draining() {
            ((bdp * 0.75) as u64).max(2 * self.mtu + 1)
        } else {
            let wide = (bdp + rate * self.headroom.as_secs_f64()) * (1.0 + self.compensation);
            (wide as u64 + 3 * self.mtu)
                .max(self.competition.competitive_window())
                .clamp(minimum, MAX_WINDOW)
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
