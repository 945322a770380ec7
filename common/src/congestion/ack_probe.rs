//! The packet that may leave although the window is full.
//!
//! quinn sends no acknowledgement while there is data to send and no room in the window, though none counts there (RFC 9002,
//! section 7). After an outage that both ends sent into, their windows are full of what was lost, and each acknowledges the
//! other's probe with its own next one. Where probes pass each other on the way, as those of ends that fell silent together
//! do, that one comes twice as late as they did: seconds. So soon after a probe one more packet may leave, and the
//! acknowledgement of what is heard then goes with it.
//!
//! It never takes the place of a probe, follows none of the first, and never two in a row: those are small enough for a path
//! that carries no large packets any more, and an acknowledgement that went with a large one is not in the next probe if data
//! fills that.

use std::time::{Duration, Instant};

/// A probe is two packets, which leave one after the other. What is heard in between is not answered.
const PROBE: Duration = Duration::from_millis(1);

/// The next probe comes later than a round trip and this after the last (RFC 9002, section 6.2.1; RFC 9000, section 18.2).
const LATEST_ACK: Duration = Duration::from_millis(25);

/// Probes that are not followed: the first in a silence, and after one that was.
const FIRST: u32 = 2;
const AFTER: u32 = 1;

/// When it may leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct AckProbe {
    round_trip: Duration,
    /// When something was heard, or a probe left since.
    at: Instant,
    /// So many probes leave before one may be followed.
    probes: u32,
}

impl AckProbe {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            round_trip: Duration::ZERO,
            at: now,
            probes: FIRST + 1,
        }
    }

    /// A packet was acknowledged.
    pub(super) fn heard(&mut self, now: Instant, round_trip: Duration) {
        *self = Self {
            round_trip,
            ..Self::new(now)
        };
    }

    /// A packet left although the window was full.
    pub(super) fn sent_beyond(&mut self, now: Instant) {
        if self.may_leave(now) {
            self.probes = AFTER + 1;
        } else if now.saturating_duration_since(self.at) >= self.next_probe() {
            self.probes = self.probes.saturating_sub(1);
            self.at = now;
        }
    }

    pub(super) fn may_leave(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at);
        self.probes == 0 && since >= PROBE && since < self.next_probe()
    }

    /// The least time between two probes.
    fn next_probe(&self) -> Duration {
        self.round_trip + LATEST_ACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(50);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn silent_since(start: Instant) -> AckProbe {
        let mut ack_probe = AckProbe::new(start);
        ack_probe.heard(start, ROUND_TRIP);
        ack_probe
    }

    /// Those of `probes` that a packet may follow which meets them ten milliseconds later.
    fn followed(ack_probe: &mut AckProbe, start: Instant, probes: &[u64]) -> Vec<u64> {
        let mut followed = Vec::new();
        for &probe in probes {
            let now = start + ms(probe);
            ack_probe.sent_beyond(now);
            assert!(
                !ack_probe.may_leave(now),
                "a probe's second packet is no second probe"
            );
            ack_probe.sent_beyond(now);
            if ack_probe.may_leave(now + ms(10)) {
                ack_probe.sent_beyond(now + ms(10));
                assert!(!ack_probe.may_leave(now + ms(11)), "one is enough");
                followed.push(probe);
            }
        }
        followed
    }

    #[test]
    fn none_of_the_first_probes_is_followed_and_no_two_in_a_row() {
        let start = Instant::now();
        let probes = [100, 300, 700, 1500, 3100, 6300];
        assert_eq!(followed(&mut silent_since(start), start, &probes), [700, 3100]);

        let mut ack_probe = silent_since(start);
        for probe in [100, 300, 700, 1500] {
            ack_probe.sent_beyond(start + ms(probe));
        }
        assert!(
            ack_probe.may_leave(start + ms(1510)),
            "whichever meets something first"
        );
    }

    #[test]
    fn it_does_not_come_instead_of_the_next_probe() {
        let start = Instant::now();
        let mut ack_probe = silent_since(start);
        followed(&mut ack_probe, start, &[100, 300]);
        ack_probe.sent_beyond(start + ms(700));
        assert!(ack_probe.may_leave(start + ms(774)));
        assert!(!ack_probe.may_leave(start + ms(775)));
    }

    #[test]
    fn while_packets_are_acknowledged_nothing_leaves_beyond_the_window() {
        let start = Instant::now();
        let mut ack_probe = silent_since(start);
        for probe in [100, 300, 700] {
            ack_probe.sent_beyond(start + ms(probe));
        }
        assert!(ack_probe.may_leave(start + ms(710)), "the outage lasts");
        for time in (720..10_000).step_by(20) {
            let now = start + ms(time);
            if time % 40 == 0 {
                ack_probe.heard(now, ROUND_TRIP);
            }
            assert!(!ack_probe.may_leave(now));
            ack_probe.sent_beyond(now);
        }
    }
}
