//! One client's session: its streams, and the workload they lead to. It outlives the connections that carry it.

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
    /// Where the legs of each stream go.
    legs: Mutex<HashMap<StreamId, mpsc::UnboundedSender<Leg>>>,
    carrier: Mutex<Carrier>,
    /// The generation of the last connection that came to carry it.
    attached: watch::Sender<u64>,
    workload: watch::Sender<Workload>,
    subscriptions: Subscriptions,
    workers: TaskTracker,
    requests: Arc<Semaphore>,
    /// A successor takes over: the workers are to leave their work.
    freezing: CancellationToken,
    left: Mutex<HashMap<StreamId, Left>>,
}

/// What is to be done for a stream.
enum Work {
    /// Everything.
    Begin(StreamHeader),
    /// To carry this socket.
    Carry(Socket),
}

/// Work that was left in the middle.
enum Left {
    Begin(StreamHeader),
    Tcp(OwnedFd),
    Unix(OwnedFd),
}

/// What carries a session.
struct Carrier {
    generation: u64,
    keep: Duration,
    /// None while nothing does, since then.
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
            left: Mutex::default(),
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

    /// Fences whatever carried the session, and has `connection` do so. The session's table; None when a connection of
    /// this or a higher generation was there before.
    pub(super) fn carry_by(
        &self,
        generation: u64,
        keep: Duration,
        connection: &Connection,
    ) -> Option<Vec<Entry>> {
        let mut carrier = self.carrier();
        if generation <= carrier.generation {
            return None;
        }
        // Before the table is taken: it must not tell any more what comes after that.
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

    /// The connection of `generation` is gone. How long the session is to be kept; None when another carries it.
    pub(super) fn leave(&self, generation: u64) -> Option<Duration> {
        let mut carrier = self.carrier();
        if carrier.generation != generation {
            return None;
        }
        carrier.connection = Err(Instant::now());
        Some(carrier.keep)
    }

    /// What carries it.
    pub(super) fn connection(&self) -> Option<Connection> {
        self.carrier().connection.as_ref().ok().cloned()
    }

    /// Since when nothing has carried it. None while something does.
    pub(super) fn left_since(&self) -> Option<Instant> {
        self.carrier().connection.as_ref().err().copied()
    }

    /// Whether nothing has carried it since the connection of `generation` was lost.
    pub(super) fn is_left_by(&self, generation: u64) -> bool {
        let carrier = self.carrier();
        carrier.generation == generation && carrier.connection.is_err()
    }

    /// Returns when a connection of a higher generation carries it.
    pub(super) async fn carried_again(&self, generation: u64) {
        // Fails only with the session.
        let _ = self.attached.subscribe().wait_for(|&now| now > generation).await;
    }

    /// Ends it: its streams are reset, its connection closed.
    pub(super) async fn end(&self, why: Close) {
        self.streams.end();
        // A closed connection that is kept holds much memory.
        if let Ok(connection) = std::mem::replace(&mut self.carrier().connection, Err(Instant::now())) {
            why.close(&connection);
        }
        self.workers.close();
        self.workers.wait().await;
    }

    /// A stream was opened on the connection of `leg`.
    pub(super) fn open(self: &Arc<Self>, context: &Arc<Context>, open: &Open, leg: Leg) {
        let from_its_beginning = open.header.is_some() && open.from == 0 && open.received == 0;
        let stream = match self
            .streams
            .opened(leg.generation, open.stream, from_its_beginning)
        {
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
            Ok(header) => self.work(context, stream.clone(), Work::Begin(header)),
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

    fn legs(&self) -> MutexGuard<'_, HashMap<StreamId, mpsc::UnboundedSender<Leg>>> {
        self.legs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
