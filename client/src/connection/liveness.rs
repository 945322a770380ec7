//! Whether a connection still hears from its peer.

use std::{sync::Arc, time::Duration};

use quinn::Connection;
use tokio::time::{Instant, sleep_until};

use crate::{session::core::Session, ticker};

/// How often a connection is looked at while it is not idle.
const CLOSE_LOOK: Duration = Duration::from_millis(250);

/// Silence that is suspicious while an answer is due, at least.
const PATIENCE: Duration = Duration::from_millis(1200);

/// A peer that was sending and pauses for so long is asked whether it is there: whoever only receives has nothing
/// outstanding, and would not notice that nothing can come any more.
const PAUSE: Duration = Duration::from_millis(600);

/// What has been seen of a connection. Pure.
#[derive(Debug)]
pub(crate) struct SilenceDetector {
    sent: u64,
    heard: u64,
    heard_at: Instant,
    /// Since when an answer is due: something was sent, or was to be.
    waiting: Option<Instant>,
    /// It was asked since it was heard last.
    asked: bool,
}

/// What a look showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was heard, or owes nothing.
    Healthy,
    /// It has paused: ask it for a sign.
    Probe,
    /// It owes an answer for so long.
    Overdue(Duration),
}

impl SilenceDetector {
    /// A connection that has just been heard from, with these counts of frames that its peer has to acknowledge, and of
    /// frames that came from it.
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

    /// Takes the counts as they are at `now`.
    pub(crate) fn look(&mut self, sent: u64, heard: u64, now: Instant) -> Seen {
        if heard != self.heard {
            // The answer to the question itself asks for no further one.
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
                // Whether the question can leave is part of what is asked.
                self.waiting = Some(now);
                Seen::Probe
            }
            None => Seen::Healthy,
        }
    }

    /// Whether a closer look is worth it: something has just come, or is due.
    #[must_use]
    pub(crate) fn is_beating(&self) -> bool {
        self.waiting.is_some() || !self.asked
    }
}

/// Watches the connection that carries a session.
pub(crate) struct Liveness {
    session: Arc<Session>,
    connection: Connection,
    pulse: SilenceDetector,
    silent: bool,
    /// When it is looked at next, whoever waits for that.
    look_at: Instant,
}

impl Liveness {
    /// Of a connection that has just been made.
    #[must_use]
    pub(crate) fn new(session: Arc<Session>, connection: Connection) -> Self {
        let (sent, heard) = counts(&connection);
        Self {
            session,
            connection,
            pulse: SilenceDetector::new(sent, heard, Instant::now()),
            silent: false,
            look_at: Instant::now() + CLOSE_LOOK,
        }
    }

    /// Returns when the peer falls silent (true) or is heard again (false). Dropping the future loses nothing.
    pub(crate) async fn changed(&mut self) -> bool {
        loop {
            sleep_until(self.look_at).await;
            let (sent, heard) = counts(&self.connection);
            let silent = match self.pulse.look(sent, heard, Instant::now()) {
                Seen::Healthy => false,
                Seen::Probe => {
                    self.session.probe();
                    self.silent
                }
                Seen::Overdue(silence) => silence > PATIENCE.max(self.connection.rtt() * 3),
            };
            self.look_at = if self.pulse.is_beating() {
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

    fn looks(pulse: &mut SilenceDetector, start: Instant, looks: &[(u64, u64, u64)]) -> Vec<Seen> {
        looks
            .iter()
            .map(|&(sent, heard, ms)| pulse.look(sent, heard, start + Duration::from_millis(ms)))
            .collect()
    }

    #[test]
    fn only_silence_while_an_answer_is_due_counts() {
        let start = Instant::now();
        let mut pulse = SilenceDetector::new(5, 5, start);
        let owes = |ms| Seen::Overdue(Duration::from_millis(ms));
        assert_eq!(
            looks(
                &mut pulse,
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
                owes(0),
                owes(2000),
                Seen::Healthy,
                Seen::Healthy,
                Seen::Probe,
                Seen::Healthy,
                Seen::Healthy
            ]
        );
    }

    #[test]
    fn a_question_that_cannot_leave_is_not_answered_either() {
        let start = Instant::now();
        let mut pulse = SilenceDetector::new(5, 5, start);
        assert_eq!(
            looks(&mut pulse, start, &[(5, 5, 700), (5, 5, 2000)]),
            [Seen::Probe, Seen::Overdue(Duration::from_millis(1300))]
        );
    }

    #[test]
    fn a_peer_that_pauses_is_asked_once() {
        let start = Instant::now();
        let mut pulse = SilenceDetector::new(5, 5, start);
        assert_eq!(
            looks(
                &mut pulse,
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
        assert!(!pulse.is_beating(), "an idle connection is left alone");
    }
}
