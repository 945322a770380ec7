//! Delivery rate samples (draft-ietf-ccwg-bbr, section 4.1).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Most send states that are kept, one for each burst in flight: more do not give better samples.
const REMEMBERED: usize = 8192;

/// The shortest interval of a sample: on a very short path, packets that arrive together look like any rate.
const INTERVAL: Duration = Duration::from_millis(1);

/// The state of the connection when a burst was sent.
#[derive(Clone, Copy, Debug)]
struct SendState {
    at: Instant,
    /// Bytes delivered by then, and when the last of them were acknowledged.
    delivered: u64,
    delivered_at: Instant,
    /// When the packet was sent that was acknowledged last.
    flight_began: Instant,
    /// The application had less to send than the window allowed.
    app_limited: bool,
}

/// What a batch of acknowledgements measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Bytes a second.
    pub(super) rate: f64,
    /// The interval that the rate was measured over.
    pub(super) interval: Duration,
    /// From the sending of the newest packet to its acknowledgement.
    pub(super) round_trip: Duration,
    /// Bytes delivered in all, and those delivered when the newest packet was sent.
    pub(super) delivered: u64,
    pub(super) delivered_before: u64,
    /// The application had less to send than the window allowed: the path may carry more than the rate.
    pub(super) app_limited: bool,
}

/// Packets sent and delivered on a path.
#[derive(Clone, Debug)]
pub(super) struct Deliveries {
    delivered: u64,
    delivered_at: Instant,
    flight_began: Instant,
    in_flight: u64,
    /// Packets sent before so many bytes are delivered belong to an application-limited flight.
    app_limited_until: u64,
    send_states: VecDeque<SendState>,
    /// The newest send state in this batch of acknowledgements.
    newest: Option<SendState>,
}

impl Deliveries {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            delivered_at: now,
            flight_began: now,
            in_flight: 0,
            app_limited_until: 0,
            send_states: VecDeque::new(),
            newest: None,
        }
    }

    pub(super) fn sent(&mut self, now: Instant, bytes: u64) {
        if self.in_flight == 0 {
            self.flight_began = now;
            self.delivered_at = now;
        }
        self.in_flight += bytes;
        if self.send_states.back().is_some_and(|last| last.at >= now) {
            return;
        }
        if self.send_states.len() == REMEMBERED {
            self.send_states.pop_front();
        }
        self.send_states.push_back(SendState {
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            flight_began: self.flight_began,
            app_limited: self.app_limited_until > self.delivered,
        });
    }

    pub(super) fn lost(&mut self, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// Bytes sent and neither acknowledged nor lost. Between two acknowledgements this differs from quinn's count: packets that
    /// only acknowledge are in it, and MTU probes are not.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub(super) fn acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = now;
        if self.newest.is_some_and(|newest| newest.at >= sent) {
            return;
        }
        let index = self
            .send_states
            .partition_point(|send_state| send_state.at < sent);
        if let Some(send_state) = self.send_states.get(index)
            && send_state.at == sent
        {
            self.newest = Some(*send_state);
        }
    }

    /// `app_limited`: the application has less to send than the window allows.
    pub(super) fn acks_end(&mut self, now: Instant, in_flight: u64, app_limited: bool) -> Option<Sample> {
        self.in_flight = in_flight;
        if app_limited {
            self.app_limited_until = self.delivered + in_flight.max(1);
        }
        let newest = self.newest.take()?;
        self.flight_began = newest.at;
        let past = self
            .send_states
            .partition_point(|send_state| send_state.at < newest.at);
        self.send_states.drain(..past);
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
            app_limited: newest.app_limited,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1000;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Sends `count` packets, one each millisecond, each acknowledged `round_trip` milliseconds later.
    fn samples(began: Instant, deliveries: &mut Deliveries, count: u64, round_trip: u64) -> Vec<Sample> {
        let mut samples = Vec::new();
        for time in 0..count + round_trip {
            let now = began + ms(time);
            if let Some(sent) = time.checked_sub(round_trip) {
                deliveries.acked(now, began + ms(sent), PACKET);
                let under_way = count.min(time) - sent - 1;
                samples.extend(deliveries.acks_end(now, under_way * PACKET, false));
            }
            if time < count {
                deliveries.sent(now, PACKET);
            }
        }
        samples
    }

    #[test]
    fn the_rate_of_a_steady_flow_is_its_delivery_rate() {
        let start = Instant::now();
        let mut deliveries = Deliveries::new(start);
        let samples = samples(start, &mut deliveries, 200, 40);
        assert_eq!(samples.len(), 200);
        let last = samples.last().unwrap();
        assert_eq!(last.round_trip, ms(40));
        assert_eq!(last.delivered, 200 * PACKET);
        assert_eq!(last.delivered - last.delivered_before, 40 * PACKET);
        // A packet each millisecond.
        assert!((last.rate - 1e6).abs() < 1e4, "{}", last.rate);
        assert!(!last.app_limited);
    }

    #[test]
    fn compressed_acknowledgements_show_no_higher_rate_than_was_sent() {
        let start = Instant::now();
        let mut deliveries = Deliveries::new(start);
        samples(start, &mut deliveries, 100, 40);
        let again = start + ms(1000);
        for time in 0..50 {
            deliveries.sent(again + ms(time), PACKET);
        }
        let now = again + ms(90);
        for time in 0..50 {
            deliveries.acked(now, again + ms(time), PACKET);
        }
        let sample = deliveries.acks_end(now, 0, false).unwrap();
        assert_eq!(
            sample.interval,
            ms(90),
            "from the first that left to the first ack_probe"
        );
        assert!(sample.rate < 1e6, "{}", sample.rate);
    }

    #[test]
    fn a_pause_does_not_lower_the_rate() {
        let start = Instant::now();
        let mut deliveries = Deliveries::new(start);
        samples(start, &mut deliveries, 100, 40);
        let later = start + Duration::from_secs(60);
        let samples = samples(later, &mut deliveries, 200, 40);
        assert!((samples.last().unwrap().rate - 1e6).abs() < 1e4);
        assert!(samples.iter().all(|sample| sample.interval <= ms(80)));
    }

    #[test]
    fn samples_of_an_application_limited_flight_are_marked() {
        let start = Instant::now();
        let mut deliveries = Deliveries::new(start);
        let mut at = |time: u64, app_limited: bool| {
            let sent = start + ms(time);
            deliveries.sent(sent, PACKET);
            deliveries.acked(sent + ms(10), sent, PACKET);
            deliveries
                .acks_end(sent + ms(10), 0, app_limited)
                .unwrap()
                .app_limited
        };
        assert!(!at(0, true), "it was sent before that was known");
        assert!(at(20, false));
        assert!(!at(40, false), "that flight is delivered");
    }
}
