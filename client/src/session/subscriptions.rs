//! What the agent tells of things that change: the newest value of each topic that this client subscribes to.

use jq_common::{
    protocol::{
        session::Control,
        topics::{Topic, Value, WorkloadStatus},
    },
    session::control::FrameSource,
};
use tokio::sync::watch;

/// What is subscribed to.
const TOPICS: [Topic; 1] = [Topic::Workload];

/// The newest values that are known.
pub struct Subscriptions {
    workload: watch::Sender<Option<WorkloadStatus>>,
}

impl Subscriptions {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            workload: watch::Sender::new(None),
        }
    }

    /// How the workload is. None while the agent does not tell.
    #[must_use]
    pub fn workload(&self) -> watch::Receiver<Option<WorkloadStatus>> {
        self.workload.subscribe()
    }

    /// What the agent of a new attachment is told: what is subscribed to, where that is `due`, because it knows of
    /// subscriptions.
    pub(super) fn subscribe(&self, due: bool) -> Subscribing {
        if !due {
            self.workload.send_replace(None);
        }
        Subscribing { due }
    }

    /// The agent tells a new value. One that this build does not know, or did not ask for, changes nothing.
    pub(super) fn update(&self, topic: Topic, value: &Value) {
        if topic != Topic::Workload {
            return tracing::debug!(?topic, "a topic that nobody subscribed to");
        }
        match value.read() {
            Ok(status) => drop(self.workload.send_replace(Some(status))),
            Err(error) => tracing::debug!(%error, "the workload's status"),
        }
    }
}

/// What one attachment's agent is told.
pub(super) struct Subscribing {
    due: bool,
}

impl FrameSource for Subscribing {
    async fn next(&mut self) -> Control {
        if !std::mem::take(&mut self.due) {
            std::future::pending::<()>().await;
        }
        Control::Subscribe {
            topics: TOPICS.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use jq_common::protocol::topics::WorkloadState;

    use super::*;

    fn status(state: WorkloadState) -> WorkloadStatus {
        WorkloadStatus {
            state,
            ..WorkloadStatus::default()
        }
    }

    #[tokio::test]
    async fn only_an_agent_that_knows_subscriptions_is_told_of_one_and_once() {
        let subscriptions = Subscriptions::new();
        let mut telling = subscriptions.subscribe(true);
        assert!(matches!(telling.next().await, Control::Subscribe { topics } if topics == TOPICS));
        assert!(telling.next().now_or_never().is_none());
        let mut silent = subscriptions.subscribe(false);
        assert!(silent.next().now_or_never().is_none());
    }

    #[test]
    fn the_newest_value_counts_until_an_agent_comes_that_tells_none() {
        let subscriptions = Subscriptions::new();
        let seen = subscriptions.workload();
        for state in [WorkloadState::Starting, WorkloadState::Running] {
            subscriptions.update(Topic::Workload, &Value::of(&status(state)).unwrap());
        }
        assert_eq!(*seen.borrow(), Some(status(WorkloadState::Running)));
        let junk = Value::of_bytes("{".into()).unwrap();
        subscriptions.update(Topic::Workload, &junk);
        subscriptions.update(Topic::Gpus, &Value::of(&status(WorkloadState::None)).unwrap());
        assert_eq!(*seen.borrow(), Some(status(WorkloadState::Running)));
        subscriptions.subscribe(false);
        assert_eq!(*seen.borrow(), None);
    }
}
