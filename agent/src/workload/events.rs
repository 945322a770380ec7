//! Reports events to the client.

use std::{
    future::Future,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jq_common::protocol::workload::{Event, Progress, Unit};
use tokio::{
    sync::mpsc::{Sender, error::TrySendError},
    time::timeout,
};

/// How long a client that does not read may delay the work for one event.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the user waits without being told what for.
const UNNAMED: Duration = Duration::from_secs(2);

/// Sends events to a client. Cheap to clone. A client that is gone, or does not read, never stops the work.
#[derive(Clone)]
pub(crate) struct EventSink(Sender<Event>);

impl EventSink {
    /// Sends events to `sender`.
    #[must_use]
    pub(crate) fn new(sender: Sender<Event>) -> Self {
        Self(sender)
    }

    /// Reports that a step has started.
    pub(crate) async fn step(&self, text: impl Into<String>) {
        self.send(Event::Step(text.into())).await;
    }

    /// Does `work`, which may take long. After two seconds the user is told `what` is waited for.
    pub(crate) async fn waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        match timeout(UNNAMED, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                self.step(what).await;
                work.await
            }
        }
    }

    /// Reports something that the user should know.
    pub(crate) async fn note(&self, text: impl Into<String>) {
        self.send(Event::Note(text.into())).await;
    }

    /// Reports something unexpected.
    pub(crate) async fn warning(&self, text: impl Into<String>) {
        self.send(Event::Warning(text.into())).await;
    }

    /// Reports the progress of a step. Dropped when the client is behind, as another report follows.
    pub(crate) fn progress(&self, progress: Progress) {
        // Full or closed: nothing depends on this report.
        let _ = self.0.try_send(Event::Progress(progress));
    }

    /// Reports what a step is doing, with a count but no total.
    pub(crate) fn detail(&self, done: u64, detail: impl Into<String>) {
        self.progress(Progress {
            done,
            total: None,
            unit: Unit::Items,
            detail: detail.into(),
        });
    }

    /// Reports the progress of a download.
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
                    tracing::warn!("an event was dropped: the client does not read");
                }
            }
        }
    }
}

/// Limits reports to a few per second.
#[derive(Default)]
pub(crate) struct Throttle(Mutex<Option<Instant>>);

impl Throttle {
    const INTERVAL: Duration = Duration::from_millis(150);

    /// Whether the next report is due.
    pub(crate) fn due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < Self::INTERVAL) {
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
    async fn a_wait_is_named_after_two_seconds_and_not_before() {
        let (sender, mut receiver) = mpsc::channel(8);
        let sink = EventSink::new(sender);
        let for_seconds = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        sink.waiting("waiting for nothing", for_seconds(1)).await;
        assert!(receiver.try_recv().is_err());
        sink.waiting("waiting for Docker", for_seconds(3)).await;
        assert_eq!(
            receiver.recv().await,
            Some(Event::Step("waiting for Docker".into()))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_delays_the_work_only_for_a_moment() {
        let (sender, mut receiver) = mpsc::channel(1);
        let sink = EventSink::new(sender);
        sink.step("first").await;
        sink.detail(1, "dropped");
        sink.note("dropped, after a while").await;
        assert_eq!(receiver.recv().await, Some(Event::Step("first".into())));
        assert!(receiver.try_recv().is_err());
    }
}
