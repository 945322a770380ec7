//! This client's session: streams and requests that go on whatever carries them.

mod attach;
mod connected;
mod control;
mod request;
mod streams;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use jq_common::{
    bootstrap::random,
    protocol::{
        capabilities::Capabilities,
        session::{BootId, Control, Epoch, SessionId},
    },
    session::{
        buffer_budget::{self, BufferBudget},
        streams::{Moved, Streams},
    },
};
use quinn::Connection;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub(crate) use self::request::{Events, RequestError};
pub use self::{
    attach::{AttachError, Attached, Installed},
    connected::Connected,
    control::{ControlStream, Detached},
};
use super::subscriptions::Subscriptions;

/// The session of this process.
pub struct Session {
    id: SessionId,
    keep: Duration,
    /// What this client can do.
    announced: Capabilities,
    streams: Arc<Streams>,
    generation: AtomicU64,
    attaching: tokio::sync::Mutex<()>,
    /// What carries it, or is about to begin to; whatever is older does not.
    carrier: watch::Sender<Option<Carrier>>,
    /// The agent that knows the session.
    agent: watch::Sender<Option<Agent>>,
    subscriptions: Subscriptions,
    /// Whether connections to the workload can be made: not between the loss of an agent and the workload's new start.
    serving: watch::Sender<bool>,
    /// Work that goes on beside its callers.
    tasks: TaskTracker,
}

#[derive(Clone)]
struct Carrier {
    generation: u64,
    connection: Connection,
}

/// An agent that knows the session.
#[derive(Clone, Copy)]
struct Agent {
    /// Its run.
    boot: BootId,
    /// The session's beginning there.
    epoch: Epoch,
    /// What both ends can do, since the last attach.
    capabilities: Capabilities,
}

impl Session {
    /// A session that nothing carries yet. The agent keeps it for `keep` when it is left alone. Where `compression`, bulk
    /// is deflated on paths that are slow enough to gain by it.
    ///
    /// # Errors
    /// Only when the system gives no randomness.
    pub fn new(keep: Duration, compression: bool) -> std::io::Result<Arc<Self>> {
        let announced = if compression {
            Capabilities::OURS
        } else {
            Capabilities::OURS.without(Capabilities::COMPRESSION)
        };
        Ok(Arc::new(Self {
            id: random().map_err(std::io::Error::other)?,
            keep,
            announced,
            streams: Arc::new(Streams::new(BufferBudget::new(buffer_budget::SESSION))),
            generation: AtomicU64::new(0),
            attaching: tokio::sync::Mutex::default(),
            carrier: watch::Sender::new(None),
            agent: watch::Sender::new(None),
            subscriptions: Subscriptions::new(),
            serving: watch::Sender::new(true),
            tasks: TaskTracker::new(),
        }))
    }

    /// The agent that knew the session is gone: everything it may have known is reset.
    pub(crate) fn lose(&self) -> usize {
        self.serving.send_replace(false);
        self.streams.lose()
    }

    /// The session's beginning at the agent that knows it; none before the first connection.
    #[must_use]
    pub(crate) fn known_by(&self) -> Option<Epoch> {
        self.agent.borrow().map(|agent| agent.epoch)
    }

    /// Whether both ends can do that, since the last attach. Nothing before the first.
    #[must_use]
    pub(crate) fn has(&self, capability: Capabilities) -> bool {
        self.agent
            .borrow()
            .is_some_and(|agent| agent.capabilities.has(capability))
    }

    /// What the agent tells of things that change.
    #[must_use]
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// The workload runs at the agent of `epoch`: connections to it can be made, unless that one is gone.
    pub(crate) fn serve(&self, epoch: Option<Epoch>) {
        if epoch == self.known_by() {
            self.serving.send_replace(true);
        }
    }

    /// Has the agent acknowledge something, so that its silence tells.
    pub(crate) fn probe(&self) {
        self.streams.send_control(Control::Acks(Vec::new()));
    }

    /// Bytes moved by all streams.
    #[must_use]
    pub(crate) fn moved(&self) -> Moved {
        self.streams.moved()
    }

    /// How many streams there are.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// The session is over here: its streams are reset.
    pub async fn end(&self) {
        self.streams.end();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
