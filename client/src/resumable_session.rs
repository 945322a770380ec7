//! The session of this client: streams and requests that outlive the connections that carry them.

mod attach;
mod connected;
mod control;
mod request;
mod streams;
mod subscriptions;

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
        offers::Carrier,
        streams::{Moved, Streams},
    },
};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub(crate) use self::request::{Events, RequestError};
pub use self::{
    attach::{AttachError, Attached, Installed},
    connected::Connected,
    control::{ControlStream, Detached},
    subscriptions::Subscriptions,
};

/// The session of this process.
pub struct Session {
    id: SessionId,
    keep: Duration,
    /// What this client can do.
    announced: Capabilities,
    streams: Arc<Streams>,
    generation: AtomicU64,
    attaching: tokio::sync::Mutex<()>,
    /// The connection that carries the session, or that was offered its streams early.
    carrier: watch::Sender<Option<Carrier>>,
    /// The agent process that knows the session.
    agent: watch::Sender<Option<Agent>>,
    subscriptions: Subscriptions,
    /// Whether the workload runs: false from the loss of an agent until the workload is restarted.
    serving: watch::Sender<bool>,
    /// Tasks of requests.
    tasks: TaskTracker,
}

/// An agent that knows the session.
#[derive(Clone, Copy)]
struct Agent {
    /// Identifies its process.
    boot: BootId,
    /// Epoch of the session there.
    epoch: Epoch,
    /// Capabilities of both ends, according to the last attach.
    capabilities: Capabilities,
}

impl Session {
    /// A session without a connection. The agent keeps it for `keep` without a connection. With `compression`, bulk data is
    /// compressed on slow paths.
    ///
    /// # Errors
    /// When the system gives no random bytes.
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

    /// Resets all streams that the agent may have known, because it has lost the session. Returns their number.
    pub(crate) fn lose(&self) -> usize {
        self.serving.send_replace(false);
        self.streams.lose()
    }

    /// Epoch of the session at the agent; none before the first connection.
    #[must_use]
    pub(crate) fn known_by(&self) -> Option<Epoch> {
        self.agent.borrow().map(|agent| agent.epoch)
    }

    /// Whether both ends support a capability, according to the last attach. False before the first.
    #[must_use]
    pub(crate) fn has(&self, capability: Capabilities) -> bool {
        self.agent
            .borrow()
            .is_some_and(|agent| agent.capabilities.has(capability))
    }

    /// Values that the agent publishes.
    #[must_use]
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// The workload runs at the agent of `epoch`: connections to it are forwarded, if that agent still has the session.
    pub(crate) fn serve(&self, epoch: Option<Epoch>) {
        if epoch == self.known_by() {
            self.serving.send_replace(true);
        }
    }

    /// Sends something that the agent must acknowledge, so that its silence can be noticed.
    pub(crate) fn probe(&self) {
        self.streams.send_control(Control::Acks(Vec::new()));
    }

    /// Bytes that all streams have transferred.
    #[must_use]
    pub(crate) fn moved(&self) -> Moved {
        self.streams.moved()
    }

    /// Number of streams.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Ends the session on this side: resets its streams, and waits for its tasks.
    pub async fn end(&self) {
        self.streams.end();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
