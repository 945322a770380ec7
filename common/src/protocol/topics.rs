//! What a client may subscribe to: it says so by [`Control::Subscribe`](super::session::Control::Subscribe), and the agent
//! tells the newest value of each topic by [`Control::Update`](super::session::Control::Update) whenever it changes, and
//! anew on each attachment.
//!
//! A value that is overtaken by a newer one is never sent. Both need
//! [`Capabilities::SUBSCRIBE`](super::capabilities::Capabilities::SUBSCRIBE).

use serde::{Deserialize, Serialize};

use super::{
    limits,
    message::{Json, Message},
};

/// Most topics of one subscription.
pub const MOST_TOPICS: usize = 16;

/// A topic's value: a message, which kind depends on the topic.
pub type Value = Json<{ limits::UPDATE_VALUE }>;

/// Something that changes. On the wire a number: a topic of a newer peer is none that this build knows, and no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub enum Topic {
    /// How the session's workload is: a [`WorkloadStatus`].
    Workload,
    /// Reserved: the ports that something listens on in the workload. No agent tells it yet.
    ListeningPorts,
    /// Reserved: how busy the GPUs are. No agent tells it yet.
    Gpus,
    /// Reserved: how long the host is still this user's. No agent tells it yet.
    TimeLeft,
    /// One that this build does not know.
    Other(u32),
}

impl From<u32> for Topic {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Workload,
            2 => Self::ListeningPorts,
            3 => Self::Gpus,
            4 => Self::TimeLeft,
            other => Self::Other(other),
        }
    }
}

impl From<Topic> for u32 {
    fn from(topic: Topic) -> Self {
        match topic {
            Topic::Workload => 1,
            Topic::ListeningPorts => 2,
            Topic::Gpus => 3,
            Topic::TimeLeft => 4,
            Topic::Other(number) => number,
        }
    }
}

/// The value of [`Topic::Workload`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadStatus {
    /// Whether it runs.
    pub state: WorkloadState,
    /// The engine that runs it, for the user: name, version and where it was found. Empty while nothing runs.
    pub engine: String,
    /// The container's name; none without one.
    pub container: Option<String>,
    /// How often it was found restarted by somebody else in this session, and taken up again.
    #[serde(skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// What the user should know of the last of these, in one line; empty before the first.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Message for WorkloadStatus {}

/// Whether a workload runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadState {
    /// None was started in this session.
    None,
    /// It is being started.
    Starting,
    /// It runs, or did when it was started last.
    Running,
    /// The agent is finding the way to it again after an upgrade.
    Restoring,
    /// Something that this build does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Frame;

    #[test]
    fn every_topic_is_a_number_of_its_own_and_an_unknown_one_survives() {
        for number in 0..10 {
            assert_eq!(u32::from(Topic::from(number)), number);
        }
        assert_eq!(Topic::from(77), Topic::Other(77));
    }

    #[test]
    fn a_state_that_is_not_known_leaves_the_rest_readable() {
        let newer = br#"{"state":"paused","engine":"Docker 31","since":7}"#;
        let status = WorkloadStatus::decode(newer).unwrap();
        assert_eq!(status.state, WorkloadState::Unknown);
        assert_eq!(status.engine, "Docker 31");
    }
}
