//! A client's session: its streams, and the workload that they connect to. It outlives the QUIC connections that carry
//! it.

mod restarts;
mod snapshot;
mod work;
mod workload;

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jq_common::{
    codec::FrameError,
    identity::Fingerprint,
    protocol::{
        session::{Close, Entry, Epoch, Open, SessionId, StreamId},
        stream::{Header, ResetCode, StreamHeader},
    },
    session::{
        buffer_budget::BufferBudget,
        leg::Leg,
        socket::Socket,
        stream::Stream,
        streams::{Opened, Streams},
    },
};
use quinn::Connection;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::workload::Workload;
use super::{context::Context, subscriptions::Subscriptions};

/// Most requests of a session in progress at once.
const REQUESTS: usize = 8;

/// A client's session.
pub(super) struct Session {
    client: Fingerprint,
    id: SessionId,
    epoch: Epoch,
    streams: Streams,
    /// Delivers the QUIC streams ("legs") that a client opens for a stream to the task that works on the stream.
    legs: Mutex<HashMap<StreamId, mpsc::UnboundedSender<Leg>>>,
    carrier: Mutex<Carrier>,
    /// Generation of the last connection that was attached.
    attached: watch::Sender<u64>,
    workload: watch::Sender<Workload>,
    subscriptions: Subscriptions,
    workers: TaskTracker,
    requests: Arc<Semaphore>,
    /// Cancelled for an upgrade: workers are to suspend their work.
    freezing: CancellationToken,
    suspended: Mutex<HashMap<StreamId, Suspended>>,
}

/// What is to be done for a stream.
enum Work {
    /// Start the request or the connection.
    Start(StreamHeader),
    /// Proxy this socket.
    Proxy(Socket),
}

/// Work that was suspended for an upgrade.
enum Suspended {
    NotStarted(StreamHeader),
    Tcp(OwnedFd),
    Unix(OwnedFd),
}

/// The connection that carries a session.
struct Carrier {
    generation: u64,
    keep: Duration,
    /// The time of the loss while there is none.
    connection: Result<Connection, Instant>,
}

impl Default for Carrier {
    fn default() -> Self {
        Self {
            generation: 0,
            keep: Duration::ZERO,
            connection: Err(Instant::now()),
        }
    }
}

impl Session {
    pub(super) fn new(client: Fingerprint, id: SessionId, epoch: Epoch, budget: Arc<BufferBudget>) -> Self {
        Self {
            client,
            id,
            epoch,
            streams: Streams::new(budget),
            legs: Mutex::default(),
            carrier: Mutex::default(),
            attached: watch::Sender::new(0),
            workload: watch::Sender::default(),
            subscriptions: Subscriptions::new(),
            workers: TaskTracker::new(),
            requests: Arc::new(Semaphore::new(REQUESTS)),
            freezing: CancellationToken::new(),
            suspended: Mutex::default(),
        }
    }

    pub(super) fn client(&self) -> Fingerprint {
        self.client
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn streams(&self) -> &Streams {
        &self.streams
    }

    pub(super) fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    fn carrier(&self) -> MutexGuard<'_, Carrier> {
        self.carrier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attaches `connection` and fences the one before. Returns the session's table; None when a connection of this or
    /// a higher generation was attached before.
    pub(super) fn attach(
        &self,
        generation: u64,
        keep: Duration,
        connection: &Connection,
    ) -> Option<Vec<Entry>> {
        let mut carrier = self.carrier();
        if generation <= carrier.generation {
            return None;
        }
        // Before the table is taken: the old connection must not acknowledge anything that the table does not have.
        if let Ok(before) = &carrier.connection {
            Close::Fenced.close(before);
        }
        let table = self.streams.fence(generation)?;
        *carrier = Carrier {
            generation,
            keep,
            connection: Ok(connection.clone()),
        };
        self.attached.send_replace(generation);
        Some(table)
    }

    /// The connection of `generation` is lost. Returns how long the session is to be kept; None when another connection
    /// carries it.
    pub(super) fn detach(&self, generation: u64) -> Option<Duration> {
        let mut carrier = self.carrier();
        if carrier.generation != generation {
            return None;
        }
        carrier.connection = Err(Instant::now());
        Some(carrier.keep)
    }

    /// The connection that carries the session.
    pub(super) fn connection(&self) -> Option<Connection> {
        self.carrier().connection.as_ref().ok().cloned()
    }

    /// When the connection was lost. None while there is one.
    pub(super) fn detached_since(&self) -> Option<Instant> {
        self.carrier().connection.as_ref().err().copied()
    }

    /// Whether no connection has been attached since that of `generation` was lost.
    pub(super) fn is_detached_since(&self, generation: u64) -> bool {
        let carrier = self.carrier();
        carrier.generation == generation && carrier.connection.is_err()
    }

    /// Returns when a connection of a higher generation is attached.
    pub(super) async fn reattached(&self, generation: u64) {
        // Fails only when the session is dropped.
        let _ = self.attached.subscribe().wait_for(|&now| now > generation).await;
    }

    /// Ends the session: resets its streams and closes its connection.
    pub(super) async fn end(&self, why: Close) {
        self.streams.end();
        // A closed connection holds much memory for as long as it is referenced.
        if let Ok(connection) = std::mem::replace(&mut self.carrier().connection, Err(Instant::now())) {
            why.close(&connection);
        }
        self.workers.close();
        self.workers.wait().await;
    }

    /// The client opened a QUIC stream for a stream of the session.
    pub(super) fn open(self: &Arc<Self>, context: &Arc<Context>, open: &Open, leg: Leg) {
        let from_its_start = open.header.is_some() && open.from == 0 && open.received == 0;
        let stream = match self.streams.opened(leg.generation, open.stream, from_its_start) {
            Opened::Known(stream) => stream,
            Opened::New(stream) => {
                if let Some(header) = &open.header {
                    self.begin(context, &stream, header);
                }
                stream
            }
            Opened::Over => return,
            Opened::TooMany => {
                let mut leg = leg;
                return leg.send.reset(ResetCode::TooMany);
            }
        };
        if stream.opened(leg.generation, open.received)
            && let Some(legs) = self.legs().get(&open.stream)
        {
            // Fails only when the stream has just ended.
            let _ = legs.send(leg);
        }
    }

    /// Begins what a stream is for, where this build understands that.
    fn begin(self: &Arc<Self>, context: &Arc<Context>, stream: &Arc<Stream>, header: &Header) {
        match header.read::<StreamHeader>() {
            Ok(header) => self.work(context, stream.clone(), Work::Start(header)),
            Err(FrameError::Unsupported(why)) => {
                tracing::info!(%why, "a stream of a client that is newer than this agent");
                stream.reset(ResetCode::Unsupported);
            }
            Err(error) => {
                tracing::debug!(%error, "a stream without a header");
                stream.reset(ResetCode::BadHeader);
            }
        }
    }

    /// Changes the workload, and has the client told.
    fn change_workload<T>(&self, change: impl FnOnce(&mut Workload) -> T) -> T {
        let mut result = None;
        self.workload
            .send_modify(|workload| result = Some(change(workload)));
        self.subscriptions.workload_is(self.workload.borrow().status());
        // The closure has run.
        result.unwrap_or_else(|| unreachable!("a change is made at once"))
    }

    fn legs(&self) -> MutexGuard<'_, HashMap<StreamId, mpsc::UnboundedSender<Leg>>> {
        self.legs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
