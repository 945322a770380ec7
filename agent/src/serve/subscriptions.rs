//! What a client subscribed to, and the newest values of it, told on each attachment anew.
//!
//! Each topic's value lies in a watch channel of whoever knows it, and becomes a message only when it is sent: a client that
//! reads slowly gets the newest, and nothing waits for it meanwhile.

use jq_common::{
    protocol::{
        capabilities::Capabilities,
        session::Control,
        topics::{Topic, Value, WorkloadStatus},
    },
    session::control::FrameSource,
};
use tokio::sync::watch;

use super::session::Workload;

/// What one attachment's client is told.
pub(super) struct Updates {
    /// The client knows what an update is.
    is_capable: bool,
    topics: watch::Receiver<Vec<Topic>>,
    workload: watch::Receiver<Workload>,
    /// The last that was told here.
    told: Option<WorkloadStatus>,
}

impl Updates {
    /// For an attachment whose ends both have `capabilities`.
    pub(super) fn new(
        capabilities: Capabilities,
        topics: watch::Receiver<Vec<Topic>>,
        workload: watch::Receiver<Workload>,
    ) -> Self {
        Self {
            is_capable: capabilities.has(Capabilities::SUBSCRIBE),
            topics,
            workload,
            told: None,
        }
    }

    /// What there is to tell now.
    fn due(&mut self) -> Option<Control> {
        let is_wanted = self.topics.borrow_and_update().contains(&Topic::Workload);
        let status = self.workload.borrow_and_update().status();
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
    use jq_common::protocol::topics::WorkloadState;

    use super::*;

    struct Channels {
        topics: watch::Sender<Vec<Topic>>,
        workload: watch::Sender<Workload>,
    }

    fn channels() -> Channels {
        Channels {
            topics: watch::Sender::new(vec![Topic::Workload, Topic::Gpus, Topic::Other(77)]),
            workload: watch::Sender::new(Workload::default()),
        }
    }

    impl Channels {
        fn updates(&self, capabilities: Capabilities) -> Updates {
            Updates::new(capabilities, self.topics.subscribe(), self.workload.subscribe())
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
        let channels = channels();
        let mut updates = channels.updates(Capabilities::OURS);
        assert_eq!(told(&mut updates), Some(WorkloadState::None));
        for _ in 0..1000 {
            channels.workload.send_modify(|workload| workload.starting += 1);
        }
        assert_eq!(told(&mut updates), Some(WorkloadState::Starting));
        assert_eq!(told(&mut updates), None);
    }

    #[test]
    fn each_attachment_is_told_anew_and_only_what_was_subscribed_to() {
        let channels = channels();
        for _ in 0..2 {
            let mut updates = channels.updates(Capabilities::OURS);
            assert_eq!(told(&mut updates), Some(WorkloadState::None));
        }
        channels.topics.send_replace(vec![Topic::Gpus]);
        let mut updates = channels.updates(Capabilities::OURS);
        assert_eq!(told(&mut updates), None);
        channels.topics.send_replace(vec![Topic::Workload]);
        assert_eq!(told(&mut updates), Some(WorkloadState::None));
    }

    #[test]
    fn a_client_that_does_not_know_updates_is_sent_none() {
        let mut updates = channels().updates(Capabilities::OURS.without(Capabilities::SUBSCRIBE));
        assert_eq!(told(&mut updates), None);
    }
}
