//! This client's session: streams and requests that go on whatever carries them.

mod attach;
mod connected;
mod offers;
mod request;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use jq_common::{
    bootstrap::random,
    codec::FrameError,
    protocol::{
        capabilities::Capabilities,
        session::{BootId, Close, Control, Epoch, SessionId},
        stream::{ResetCode, StreamHeader},
        target::{Scope, Target},
    },
    session::{
        buffer_budget::{self, BufferBudget},
        control,
        socket::Socket,
        stream::Ended,
        streams::{Moved, Streams},
    },
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tokio_util::task::TaskTracker;

pub use self::{
    attach::{AttachError, Attached},
    connected::Connected,
    request::{Events, RequestError},
};
use super::subscriptions::Subscriptions;

/// How long a connection waits for a workload that is being started again: nobody sees meanwhile whether its other end
/// still does.
const SERVED: Duration = Duration::from_secs(60);

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

/// The control stream of the connection that carries the session.
pub struct ControlStream {
    capabilities: Capabilities,
    send: SendStream,
    receive: RecvStream,
}

/// What a new carrier means for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The session began.
    Began,
    /// It goes on.
    Resumed,
    /// The agent does not know it any more: so many streams were reset.
    Lost {
        /// How many.
        streams: usize,
        /// The agent was started anew; else it gave the session up.
        other_agent: bool,
    },
}

/// Why a connection does not carry the session any more.
#[derive(Clone, Debug)]
pub enum Detached {
    /// The agent closed it, for this reason.
    Closed(Close),
    /// The agent is about to be replaced by its successor.
    Restarting,
    /// It was lost.
    Lost(ConnectionError),
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
            streams: Streams::new(BufferBudget::new(buffer_budget::SESSION)),
            generation: AtomicU64::new(0),
            attaching: tokio::sync::Mutex::default(),
            carrier: watch::Sender::new(None),
            agent: watch::Sender::new(None),
            subscriptions: Subscriptions::new(),
            serving: watch::Sender::new(true),
            tasks: TaskTracker::new(),
        }))
    }

    /// Whether no newer connection carries the session already.
    #[must_use]
    pub fn is_newer(&self, attached: &Attached) -> bool {
        attached.generation > self.streams.generation()
    }

    /// Moves all streams over. None when a newer connection carries the session already.
    pub fn install(&self, attached: Attached) -> Option<(Installed, ControlStream)> {
        let Attached {
            connection,
            generation,
            boot,
            epoch,
            capabilities,
            table,
            send,
            receive,
        } = attached;
        if generation <= self.streams.generation() {
            return None;
        }
        let before = self.agent.send_replace(Some(Agent {
            boot,
            epoch,
            capabilities,
        }));
        let installed = match before {
            None => Installed::Began,
            Some(before) if before.epoch == epoch => Installed::Resumed,
            Some(before) => {
                self.serving.send_replace(false);
                Installed::Lost {
                    streams: self.streams.lose(),
                    other_agent: before.boot != boot,
                }
            }
        };
        self.streams
            .let_deflate(capabilities.has(Capabilities::COMPRESSION));
        if !self.streams.resume(generation, table) {
            return None;
        }
        self.carrier.send_replace(Some(Carrier {
            generation,
            connection,
        }));
        let control = ControlStream {
            capabilities,
            send,
            receive,
        };
        Some((installed, control))
    }

    /// The agent that knew the session is gone: everything it may have known is reset.
    pub fn lose(&self) -> usize {
        self.serving.send_replace(false);
        self.streams.lose()
    }

    /// The session's beginning at the agent that knows it; none before the first connection.
    #[must_use]
    pub fn known_by(&self) -> Option<Epoch> {
        self.agent.borrow().map(|agent| agent.epoch)
    }

    /// Whether both ends can do that, since the last attach. Nothing before the first.
    #[must_use]
    pub fn has(&self, capability: Capabilities) -> bool {
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
    pub fn serve(&self, epoch: Option<Epoch>) {
        if epoch == self.known_by() {
            self.serving.send_replace(true);
        }
    }

    /// Talks on the control stream for as long as the connection carries the session.
    pub async fn talk(&self, connection: &Connection, stream: &mut ControlStream) -> Detached {
        let ControlStream {
            capabilities,
            send,
            receive,
        } = stream;
        let mut subscribing = self.subscriptions.subscribe(*capabilities);
        let heard = async {
            loop {
                let control = control::hear(receive).await?;
                let path = connection.stats().path;
                self.streams.carried(path.cwnd, path.rtt);
                match control {
                    Control::Restarting => return Ok::<_, FrameError>(()),
                    Control::Update { topic, value } => self.subscriptions.update(topic, &value),
                    control if self.streams.hear(&control) => {}
                    _ => return Err(FrameError::Ended),
                }
            }
        };
        let failed = tokio::select! {
            _ = connection.closed() => None,
            heard = heard => match heard {
                Ok(()) => return Detached::Restarting,
                Err(error) => Some(error),
            },
            Err(error) = control::tell(&self.streams, &mut subscribing, send) => Some(error),
        };
        if let Some(error) = failed {
            tracing::debug!(%error, "control stream");
            if connection.close_reason().is_none() {
                // It broke alone, which is a fault of the agent's.
                connection.close(quinn::VarInt::from_u32(0), b"");
            }
        }
        match connection.closed().await {
            ConnectionError::ApplicationClosed(close) => {
                match Close::from_wire(close.error_code.into_inner()) {
                    Some(close) => Detached::Closed(close),
                    None => Detached::Lost(ConnectionError::ApplicationClosed(close)),
                }
            }
            error => Detached::Lost(error),
        }
    }

    /// Has the agent acknowledge something, so that its silence tells.
    pub fn ask_for_a_sign(&self) {
        self.streams.tell(Control::Acks(Vec::new()));
    }

    /// Bytes moved by all streams.
    #[must_use]
    pub fn moved(&self) -> Moved {
        self.streams.moved()
    }

    /// How many streams there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there is no stream.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Carries a TCP connection to `target` until both of its ways have ended. Dropped before, it resets both sides.
    ///
    /// # Errors
    /// Why it was reset; `tcp` has then been reset too.
    pub async fn carry(&self, tcp: TcpStream, target: Target) -> Result<(), ResetCode> {
        let socket = Socket::from(tcp);
        self.served(&target).await?;
        let (given_up, mut legs) = self
            .open(&StreamHeader::forward(target))
            .map_err(|_| ResetCode::BadHeader)?;
        let ended = given_up.0.proxy(&socket, &mut legs).await;
        match ended {
            Ended::Complete => Ok(()),
            Ended::Reset(reset) => Err(reset.code()),
        }
    }

    /// Returns once `target` can be connected to, as far as this end knows.
    async fn served(&self, target: &Target) -> Result<(), ResetCode> {
        if target.scope == Scope::Workload {
            let mut serving = self.serving.subscribe();
            let served = timeout(SERVED, serving.wait_for(|serving| *serving)).await;
            if !matches!(served, Ok(Ok(_))) {
                return Err(ResetCode::SessionLost);
            }
        }
        Ok(())
    }

    /// The session is over here: its streams are reset.
    pub async fn end(&self) {
        self.streams.end();
        self.tasks.close();
        self.tasks.wait().await;
        self.streams.clear().await;
    }
}
