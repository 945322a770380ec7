//! Telling the client what happens.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jq_common::protocol::workload::{Event, Progress, Unit};
use tokio::sync::mpsc::{Sender, error::TrySendError};

/// How long a client that does not read holds up the work for one event.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends events to a client. Cheap to clone. A client that is gone, or does not read, stops nothing.
#[derive(Clone)]
pub(crate) struct EventSink(Sender<Event>);

impl EventSink {
    /// Events go to `sender`.
    #[must_use]
    pub(crate) fn new(sender: Sender<Event>) -> Self {
        Self(sender)
    }

    /// A step has begun.
    pub(crate) async fn step(&self, text: impl Into<String>) {
        self.send(Event::Step(text.into())).await;
    }

    /// Something the user should know.
    pub(crate) async fn note(&self, text: impl Into<String>) {
        self.send(Event::Note(text.into())).await;
    }

    /// Something the user would not expect.
    pub(crate) async fn warning(&self, text: impl Into<String>) {
        self.send(Event::Warning(text.into())).await;
    }

    /// How far the step has come. Left out when the client is behind: another follows.
    pub(crate) fn progress(&self, progress: Progress) {
        // Full or closed: nothing depends on it.
        let _ = self.0.try_send(Event::Progress(progress));
    }

    /// What the step is at, without a measure.
    pub(crate) fn detail(&self, done: u64, detail: impl Into<String>) {
        self.progress(Progress {
            done,
            total: None,
            unit: Unit::Items,
            detail: detail.into(),
        });
    }

    /// How much of something has been fetched.
    pub(crate) fn bytes(&self, done: u64, total: Option<u64>, detail: String) {
        self.progress(Progress {
            done,
            total,
            unit: Unit::Bytes,
            detail,
        });
    }

    async fn send(&self, event: Event) {
        match self.0.try_send(event) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(event)) => {
                if self.0.send_timeout(event, PATIENCE).await.is_err() {
                    tracing::warn!("an event was left out: the client does not read");
                }
            }
        }
    }
}

/// Lets through a few reports a second.
#[derive(Default)]
pub(crate) struct Throttle(Mutex<Option<Instant>>);

impl Throttle {
    const BEAT: Duration = Duration::from_millis(150);

    /// Whether it is time for the next.
    pub(crate) fn due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < Self::BEAT) {
            return false;
        }
        *last = Some(Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn a_client_that_is_gone_stops_nothing() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let sink = EventSink::new(sender);
        sink.step("pulling").await;
        sink.detail(1, "line");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_holds_up_for_a_moment_only() {
        let (sender, mut receiver) = mpsc::channel(1);
        let sink = EventSink::new(sender);
        sink.step("first").await;
        sink.detail(1, "left out");
        sink.note("left out, after a while").await;
        assert_eq!(receiver.recv().await, Some(Event::Step("first".into())));
        assert!(receiver.try_recv().is_err());
    }
}
