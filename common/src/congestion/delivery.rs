//! At which rate bytes arrive (draft-ietf-ccwg-bbr, section 4.1: delivery rate samples).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Bursts of packets under way that are remembered at most: more gives no better sample.
const REMEMBERED: usize = 8192;

/// A rate is measured over no less: on the shortest of ways, what arrives at once looks like any rate.
const INTERVAL: Duration = Duration::from_millis(1);

/// How things stood when packets were sent.
#[derive(Clone, Copy, Debug)]
struct Departure {
    at: Instant,
    /// Bytes that had arrived, and when the last of them were acknowledged.
    delivered: u64,
    delivered_at: Instant,
    /// When the packet left that was acknowledged last.
    flight_began: Instant,
    /// There was less to send than might have been sent.
    starved: bool,
}

/// What a batch of acknowledgements shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Bytes a second.
    pub(super) rate: f64,
    /// How long the rate was measured.
    pub(super) interval: Duration,
    /// From the departure of the newest packet to its acknowledgement.
    pub(super) round_trip: Duration,
    /// Bytes that have arrived in all, and that had when the newest packet left.
    pub(super) delivered: u64,
    pub(super) delivered_before: u64,
    /// Less was sent than might have been: the path could do more.
    pub(super) starved: bool,
}

/// What left and what arrived on a path.
#[derive(Clone, Debug)]
pub(super) struct Deliveries {
    delivered: u64,
    delivered_at: Instant,
    flight_began: Instant,
    in_flight: u64,
    /// Packets that leave before so much has arrived belong to a flight that was not full.
    starved_until: u64,
    departures: VecDeque<Departure>,
    /// The newest departure of this batch of acknowledgements.
    newest: Option<Departure>,
}

impl Deliveries {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            delivered_at: now,
            flight_began: now,
            in_flight: 0,
            starved_until: 0,
            departures: VecDeque::new(),
            newest: None,
        }
    }

    pub(super) fn sent(&mut self, now: Instant, bytes: u64) {
        if self.in_flight == 0 {
            self.flight_began = now;
            self.delivered_at = now;
        }
        self.in_flight += bytes;
        if self.departures.back().is_some_and(|last| last.at >= now) {
            return;
        }
        if self.departures.len() == REMEMBERED {
            self.departures.pop_front();
        }
        self.departures.push_back(Departure {
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            flight_began: self.flight_began,
            starved: self.starved_until > self.delivered,
        });
    }

    pub(super) fn acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = now;
        if self.newest.is_some_and(|newest| newest.at >= sent) {
            return;
        }
        let index = self.departures.partition_point(|departure| departure.at < sent);
        if let Some(departure) = self.departures.get(index)
            && departure.at == sent
        {
            self.newest = Some(*departure);
        }
    }

    /// `starved`: there is less to send than may be sent.
    pub(super) fn acks_end(&mut self, now: Instant, in_flight: u64, starved: bool) -> Option<Sample> {
        self.in_flight = in_flight;
        if starved {
            self.starved_until = self.delivered + in_flight.max(1);
        }
        let newest = self.newest.take()?;
        self.flight_began = newest.at;
        let past = self
            .departures
            .partition_point(|departure| departure.at < newest.at);
        self.departures.drain(..past);
        let sending = newest.at.saturating_duration_since(newest.flight_began);
        let arriving = now.saturating_duration_since(newest.delivered_at);
        let interval = sending.max(arriving).max(INTERVAL);
        let bytes = self.delivered - newest.delivered;
        Some(Sample {
            rate: bytes as f64 / interval.as_secs_f64(),
            interval,
            round_trip: now.saturating_duration_since(newest.at),
            delivered: self.delivered,
            delivered_before: newest.delivered,
            starved: newest.starved,
        })
    }
}
