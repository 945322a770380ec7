//! One extra packet while the window is full, so that an acknowledgement can leave after an outage.
//!
//! quinn sends no acknowledgement while there is data to send and no room in the window, although acknowledgements are not
//! counted there (RFC 9002, section 7). After an outage that both ends sent into, both windows are full of lost packets, and
//! each end acknowledges the other's probe (PTO) only with its own next one. Where probes cross on the way, as those of ends
//! that fell silent together do, that is twice the interval later: seconds. So shortly after a probe one extra packet may
//! leave, and the acknowledgement of what has been received goes with it.
//!
//! It never replaces a probe, and it follows neither the first probes nor two in a row. Probes are small enough for a path
//! that no longer carries large packets, and an acknowledgement that was sent in a large packet is not repeated in the next
//! probe if data fills that.

use std::time::{Duration, Instant};

/// A probe is two packets in a row. What is received between them is not acknowledged by an extra one.
const PROBE: Duration = Duration::from_millis(1);

/// max_ack_delay. The next probe is later than a round trip plus this (RFC 9002, section 6.2.1; RFC 9000, section 18.2).
const MAX_ACK_DELAY: Duration = Duration::from_millis(25);

/// Probes without an extra packet: at the beginning of a silence, and after one that had it.
const FIRST: u32 = 2;
const AFTER: u32 = 1;

/// Decides when the extra packet may leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct AckProbe {
    round_trip: Duration,
    /// When a packet was acknowledged last, or a probe was sent since.
    at: Instant,
    /// Probes to send before one may be followed by an extra packet.
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

    /// A packet was sent although the window was full.
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
        self.round_trip + MAX_ACK_DELAY
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

    /// Those of `probes` (sent at these milliseconds) that an extra packet may follow ten milliseconds later.
    fn followed(ack_probe: &mut AckProbe, start: Instant, probes: &[u64]) -> Vec<u64> {
        let mut followed = Vec::new();
        for &probe in probes {
            let now = start + ms(probe);
            ack_probe.sent_beyond(now);
            assert!(!ack_probe.may_leave(now), "the second packet of a probe");
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
    fn the_first_probes_and_two_in_a_row_get_no_extra_packet() {
        let start = Instant::now();
        let probes = [100, 300, 700, 1500, 3100, 6300];
        assert_eq!(followed(&mut silent_since(start), start, &probes), [700, 3100]);

        let mut ack_probe = silent_since(start);
        for probe in [100, 300, 700, 1500] {
            ack_probe.sent_beyond(start + ms(probe));
        }
        assert!(
            ack_probe.may_leave(start + ms(1510)),
            "whichever is acknowledged first"
        );
    }

    #[test]
    fn an_extra_packet_does_not_replace_the_next_probe() {
        let start = Instant::now();
        let mut ack_probe = silent_since(start);
        followed(&mut ack_probe, start, &[100, 300]);
        ack_probe.sent_beyond(start + ms(700));
        assert!(ack_probe.may_leave(start + ms(774)));
        assert!(!ack_probe.may_leave(start + ms(775)));
    }

    #[test]
    fn while_packets_are_acknowledged_nothing_exceeds_the_window() {
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
