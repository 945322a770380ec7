//! Subscriptions: the newest value of each topic that the agent publishes.

use jq_common::{
    protocol::{
        session::Control,
        topics::{Topic, Value, WorkloadStatus},
    },
    session::control::FrameSource,
};
use tokio::sync::watch;

/// The topics that this client subscribes to.
const TOPICS: [Topic; 1] = [Topic::Workload];

/// The newest values.
pub struct Subscriptions {
    workload: watch::Sender<Option<WorkloadStatus>>,
}

impl Subscriptions {
    /// No values yet.
    pub(super) fn new() -> Self {
        Self {
            workload: watch::Sender::new(None),
        }
    }

    /// State of the workload. None if the agent does not publish it.
    #[must_use]
    pub fn workload(&self) -> watch::Receiver<Option<WorkloadStatus>> {
        self.workload.subscribe()
    }

    /// Control frames for a new attachment: the subscription if it is `due`, that is, if the agent supports subscriptions.
    pub(super) fn subscribe(&self, due: bool) -> Subscribing {
        if !due {
            self.workload.send_replace(None);
        }
        Subscribing { due }
    }

    /// Takes a new value from the agent. Unknown topics, and topics without a subscription, are ignored.
    pub(super) fn update(&self, topic: Topic, value: &Value) {
        if topic != Topic::Workload {
            return tracing::debug!(?topic, "topic without a subscription");
        }
        match value.read() {
            Ok(status) => drop(self.workload.send_replace(Some(status))),
            Err(error) => tracing::debug!(%error, "the workload's status"),
        }
    }
}

/// The control frames for one attachment.
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
    async fn the_subscription_is_sent_once_and_only_to_an_agent_that_supports_it() {
        let subscriptions = Subscriptions::new();
        let mut telling = subscriptions.subscribe(true);
        assert!(matches!(telling.next().await, Control::Subscribe { topics } if topics == TOPICS));
        assert!(telling.next().now_or_never().is_none());
        let mut silent = subscriptions.subscribe(false);
        assert!(silent.next().now_or_never().is_none());
    }

    #[test]
    fn the_newest_value_counts_until_an_agent_without_subscriptions_takes_over() {
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
