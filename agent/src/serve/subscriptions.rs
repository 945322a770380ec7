//! What a client subscribed to, and the newest value of each topic: a watch channel each.
//!
//! A value becomes a message only when it is sent. A client that reads slowly gets the newest one, and nobody waits for it
//! meanwhile. Each attachment is told anew.

use jq_common::{
    protocol::{
        session::Control,
        topics::{Topic, Value, WorkloadState, WorkloadStatus},
    },
    session::control::FrameSource,
};
use tokio::sync::watch;

/// A session's subscriptions.
pub(super) struct Subscriptions {
    topics: watch::Sender<Vec<Topic>>,
    workload: watch::Sender<WorkloadStatus>,
}

impl Subscriptions {
    /// To nothing.
    pub(super) fn new() -> Self {
        let none = WorkloadStatus {
            state: WorkloadState::None,
            ..WorkloadStatus::default()
        };
        Self {
            topics: watch::Sender::default(),
            workload: watch::Sender::new(none),
        }
    }

    /// The client wants to hear of these topics, and of no others any more.
    pub(super) fn subscribe(&self, topics: Vec<Topic>) {
        self.topics.send_replace(topics);
    }

    /// What the client wants to hear of.
    pub(super) fn topics(&self) -> Vec<Topic> {
        self.topics.borrow().clone()
    }

    /// The workload is like this now.
    pub(super) fn workload_is(&self, status: WorkloadStatus) {
        self.workload.send_replace(status);
    }

    /// What an attachment's client is told; nothing where it does not know what an update is.
    pub(super) fn updates(&self, is_capable: bool) -> Updates {
        Updates {
            is_capable,
            topics: self.topics.subscribe(),
            workload: self.workload.subscribe(),
            told: None,
        }
    }
}

/// What one attachment's client is told.
pub(super) struct Updates {
    is_capable: bool,
    topics: watch::Receiver<Vec<Topic>>,
    workload: watch::Receiver<WorkloadStatus>,
    /// The last that was told here.
    told: Option<WorkloadStatus>,
}

impl Updates {
    /// What there is to tell now.
    fn due(&mut self) -> Option<Control> {
        let is_wanted = self.topics.borrow_and_update().contains(&Topic::Workload);
        let status = self.workload.borrow_and_update().clone();
        if !is_wanted {
            self.told = None;
            return None;
        }
        if self.told.as_ref() == Some(&status) {
            return None;
        }
        let value = Value::of(&status);
        self.told = Some(status);
        match value {
            Ok(value) => Some(Control::Update {
                topic: Topic::Workload,
                value,
            }),
            Err(error) => {
                tracing::warn!(%error, "the workload's status");
                None
            }
        }
    }
}

impl FrameSource for Updates {
    async fn next(&mut self) -> Control {
        while self.is_capable {
            if let Some(update) = self.due() {
                return update;
            }
            let changed = tokio::select! {
                changed = self.topics.changed() => changed,
                changed = self.workload.changed() => changed,
            };
            if changed.is_err() {
                // The session is being dropped.
                break;
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn subscribed() -> Subscriptions {
        let subscriptions = Subscriptions::new();
        subscriptions.subscribe(vec![Topic::Workload, Topic::Gpus, Topic::Other(77)]);
        subscriptions
    }

    fn status(state: WorkloadState) -> WorkloadStatus {
        WorkloadStatus {
            state,
            ..WorkloadStatus::default()
        }
    }

    /// The state that is told now, if any is.
    fn told(updates: &mut Updates) -> Option<WorkloadState> {
        match updates.next().now_or_never()? {
            Control::Update {
                topic: Topic::Workload,
                value,
            } => Some(value.read::<WorkloadStatus>().unwrap().state),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_slow_client_is_told_the_newest_value_and_none_of_those_before() {
        let subscriptions = subscribed();
        let mut updates = subscriptions.updates(true);
        assert_eq!(told(&mut updates), Some(WorkloadState::None));
        for _ in 0..1000 {
            subscriptions.workload_is(status(WorkloadState::Starting));
            subscriptions.workload_is(status(WorkloadState::Running));
        }
        assert_eq!(told(&mut updates), Some(WorkloadState::Running));
        assert_eq!(told(&mut updates), None);
    }

    #[test]
    fn each_attachment_is_told_anew_and_only_what_was_subscribed_to() {
        let subscriptions = subscribed();
        for _ in 0..2 {
            let mut updates = subscriptions.updates(true);
            assert_eq!(told(&mut updates), Some(WorkloadState::None));
        }
        subscriptions.subscribe(vec![Topic::Gpus]);
        let mut updates = subscriptions.updates(true);
        assert_eq!(told(&mut updates), None);
        subscriptions.subscribe(vec![Topic::Workload]);
        assert_eq!(told(&mut updates), Some(WorkloadState::None));
    }

    #[test]
    fn a_client_that_does_not_know_updates_is_sent_none() {
        assert_eq!(told(&mut subscribed().updates(false)), None);
    }
}
