//! Detects that a peer has fallen silent.

use std::{sync::Arc, time::Duration};

use quinn::Connection;
use tokio::time::{Instant, sleep_until};

use crate::{resumable_session::Session, ticker};

/// Interval of checks while the connection is not idle.
const CLOSE_LOOK: Duration = Duration::from_millis(250);

/// Shortest silence, while an acknowledgement is due, that counts as an outage.
const PATIENCE: Duration = Duration::from_millis(1200);

/// A peer that pauses for so long after sending is probed: a side that only receives has nothing outstanding, and would
/// not notice that the path is dead.
const PAUSE: Duration = Duration::from_millis(600);

/// Detects silence from counts of frames. Pure.
#[derive(Debug)]
pub(crate) struct SilenceDetector {
    sent: u64,
    heard: u64,
    heard_at: Instant,
    /// Since when an acknowledgement is due: something was sent, or should have been.
    waiting: Option<Instant>,
    /// A probe was sent since the peer was last heard.
    asked: bool,
}

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The peer was heard, or no acknowledgement is due.
    Healthy,
    /// The peer has paused: send a probe.
    Probe,
    /// An acknowledgement is due for this long.
    Overdue(Duration),
}

impl SilenceDetector {
    /// A connection whose peer was heard at `now`. `sent` counts frames that the peer has to acknowledge, `heard` frames
    /// from the peer.
    #[must_use]
    pub(crate) fn new(sent: u64, heard: u64, now: Instant) -> Self {
        Self {
            sent,
            heard,
            heard_at: now,
            waiting: None,
            asked: false,
        }
    }

    /// Checks with the counts at `now`.
    pub(crate) fn look(&mut self, sent: u64, heard: u64, now: Instant) -> Seen {
        if heard != self.heard {
            // The answer to a probe causes no further probe.
            let answered = self.asked && heard - self.heard <= 2;
            *self = Self::new(sent, heard, now);
            self.asked = answered;
            return Seen::Healthy;
        }
        if sent != self.sent && self.waiting.is_none() {
            self.waiting = Some(now);
        }
        match self.waiting {
            Some(since) => Seen::Overdue(now - since),
            None if !self.asked && now - self.heard_at >= PAUSE => {
                self.asked = true;
                // Due from now on, even if the probe cannot be sent.
                self.waiting = Some(now);
                Seen::Probe
            }
            None => Seen::Healthy,
        }
    }

    /// Whether checks should be frequent: the peer was just heard, or an acknowledgement is due.
    #[must_use]
    pub(crate) fn is_active(&self) -> bool {
        self.waiting.is_some() || !self.asked
    }
}

/// Watches one connection of a session.
pub(crate) struct Liveness {
    session: Arc<Session>,
    connection: Connection,
    detector: SilenceDetector,
    silent: bool,
    /// Time of the next check; kept across cancelled waits.
    look_at: Instant,
}

impl Liveness {
    /// Watches a new connection.
    #[must_use]
    pub(crate) fn new(session: Arc<Session>, connection: Connection) -> Self {
        let (sent, heard) = counts(&connection);
        Self {
            session,
            connection,
            detector: SilenceDetector::new(sent, heard, Instant::now()),
            silent: false,
            look_at: Instant::now() + CLOSE_LOOK,
        }
    }

    /// Returns when the peer falls silent (true) or is heard again (false). Cancel safe.
    pub(crate) async fn changed(&mut self) -> bool {
        loop {
            sleep_until(self.look_at).await;
            let (sent, heard) = counts(&self.connection);
            let silent = match self.detector.look(sent, heard, Instant::now()) {
                Seen::Healthy => false,
                Seen::Probe => {
                    self.session.probe();
                    self.silent
                }
                Seen::Overdue(silence) => silence > PATIENCE.max(self.connection.rtt() * 3),
            };
            self.look_at = if self.detector.is_active() {
                Instant::now() + CLOSE_LOOK
            } else {
                ticker::next()
            };
            if silent != self.silent {
                self.silent = silent;
                return silent;
            }
        }
    }
}

fn counts(connection: &Connection) -> (u64, u64) {
    let stats = connection.stats();
    let (sent, heard) = (stats.frame_tx, stats.frame_rx);
    (
        sent.stream + sent.ping + sent.reset_stream + sent.stop_sending + sent.crypto,
        heard.acks + heard.stream + heard.ping + heard.reset_stream + heard.stop_sending,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000;

    fn looks(detector: &mut SilenceDetector, start: Instant, looks: &[(u64, u64, u64)]) -> Vec<Seen> {
        looks
            .iter()
            .map(|&(sent, heard, ms)| detector.look(sent, heard, start + Duration::from_millis(ms)))
            .collect()
    }

    #[test]
    fn silence_counts_only_while_an_acknowledgement_is_due() {
        let start = Instant::now();
        let mut detector = SilenceDetector::new(5, 5, start);
        let overdue = |ms| Seen::Overdue(Duration::from_millis(ms));
        assert_eq!(
            looks(
                &mut detector,
                start,
                &[
                    (6, 5, 100),
                    (9, 5, 2100),
                    (9, 9, 2200),
                    (9, 9, 2300),
                    (9, 9, 2900),
                    (10, 10, 2950),
                    (10, 10, START)
                ]
            ),
            [
                overdue(0),
                overdue(2000),
                Seen::Healthy,
                Seen::Healthy,
                Seen::Probe,
                Seen::Healthy,
                Seen::Healthy
            ]
        );
    }

    #[test]
    fn a_probe_that_cannot_be_sent_counts_as_unanswered() {
        let start = Instant::now();
        let mut detector = SilenceDetector::new(5, 5, start);
        assert_eq!(
            looks(&mut detector, start, &[(5, 5, 700), (5, 5, 2000)]),
            [Seen::Probe, Seen::Overdue(Duration::from_millis(1300))]
        );
    }

    #[test]
    fn a_peer_that_pauses_is_probed_once() {
        let start = Instant::now();
        let mut detector = SilenceDetector::new(5, 5, start);
        assert_eq!(
            looks(
                &mut detector,
                start,
                &[
                    (5, 9, 100),
                    (5, 9, 800),
                    (6, 9, 900),
                    (6, 10, 950),
                    (6, 10, START)
                ]
            ),
            [
                Seen::Healthy,
                Seen::Probe,
                Seen::Overdue(Duration::from_millis(100)),
                Seen::Healthy,
                Seen::Healthy
            ]
        );
        assert!(!detector.is_active(), "an idle connection is left alone");
    }
}
