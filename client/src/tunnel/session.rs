//! This client's session: streams and requests that go on whatever carries them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jq_common::{
    bootstrap::random,
    codec::{self, FrameError},
    protocol::{
        control::{Event, Request},
        limits,
        session::{Attach, AttachReply, BootId, Close, Control, Entry, Epoch, Open, SessionId},
        stream::{ResetCode, StreamHeader, Target},
    },
    session::{
        control,
        leg::{Leg, Legs, Receiver, Sender},
        pool::{self, Pool},
        socket::Socket,
        stream::{Ended, Stream},
        streams::{Moved, Streams},
    },
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::watch,
    time::timeout,
};
use tokio_util::task::TaskTracker;

/// How long an attach waits for another at most.
const TURN: Duration = Duration::from_millis(400);

/// How long a connection waits for a workload that is being started again: nobody sees meanwhile whether its other end
/// still does.
const SERVED: Duration = Duration::from_secs(60);

/// The session of this process.
pub struct Session {
    id: SessionId,
    keep: Duration,
    streams: Arc<Streams>,
    generation: AtomicU64,
    attaching: tokio::sync::Mutex<()>,
    /// What carries it; whatever is older does not.
    carrier: watch::Sender<Option<Carrier>>,
    /// The agent's run that knows the session, and the session's beginning there.
    known_by: Mutex<Option<(BootId, Epoch)>>,
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

/// A connection that carries the session at the agent, and is to be [installed](Session::install) here.
pub struct Attached {
    /// The connection.
    pub connection: Connection,
    generation: u64,
    boot: BootId,
    epoch: Epoch,
    table: HashMap<u64, Entry>,
    send: SendStream,
    receive: RecvStream,
}

/// The control stream of the connection that carries the session.
pub struct ControlStream {
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

/// Why a connection could not be made to carry the session.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It was lost meanwhile, or the agent said something that cannot be.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Another connection of this session was quicker.
    #[error("another connection carries the session")]
    Stale,
    /// The agent cannot take it.
    #[error("the agent is ending, or has too many sessions")]
    Busy,
}

/// Why a connection does not carry the session any more.
#[derive(Clone, Debug)]
pub enum Parted {
    /// The agent closed it, for this reason.
    Closed(Close),
    /// The agent is about to be replaced by its successor.
    Restarting,
    /// It was lost.
    Lost(ConnectionError),
}

/// The answer to a request.
pub struct Events {
    receive: UnixStream,
}

impl Session {
    /// A session that nothing carries yet. The agent keeps it for `keep` when it is left alone.
    ///
    /// # Errors
    /// Only when the system gives no randomness.
    pub fn new(keep: Duration) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            id: random().map_err(std::io::Error::other)?,
            keep,
            streams: Streams::new(Pool::new(pool::SESSION)),
            generation: AtomicU64::new(0),
            attaching: tokio::sync::Mutex::default(),
            carrier: watch::Sender::new(None),
            known_by: Mutex::new(None),
            serving: watch::Sender::new(true),
            tasks: TaskTracker::new(),
        }))
    }

    /// Has the agent carry the session by `connection` from now on, within `deadline`. Whatever carried it goes on to until
    /// then.
    ///
    /// # Errors
    /// An [`AttachError`]; nothing has changed then, as far as can be known.
    pub async fn attach(&self, connection: Connection, deadline: Duration) -> Result<Attached, AttachError> {
        // One at a time, so that two ways that work do not fence each other. One that is dead must not keep the next.
        let _turn = timeout(TURN, self.attaching.lock()).await;
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let attach = Attach {
            session: self.id,
            generation,
            keep_s: self.keep.as_secs(),
        };
        let exchange = async {
            let (mut send, mut receive) = connection
                .open_bi()
                .await
                .map_err(|error| FrameError::Io(error.into()))?;
            // What it says frees memory and streams at both ends: it goes before any data.
            let _ = send.set_priority(control::CONTROL_PRIORITY);
            codec::write(&mut send, &attach, limits::CONTROL_FRAME).await?;
            match codec::read(&mut receive, limits::CONTROL_FRAME).await? {
                AttachReply::Attached { boot, epoch } => {
                    let table = control::read_table(&mut receive).await?;
                    Ok((boot, epoch, table, send, receive))
                }
                AttachReply::Stale => Err(AttachError::Stale),
                AttachReply::Busy => Err(AttachError::Busy),
            }
        };
        let (boot, epoch, table, send, receive) = timeout(deadline, exchange)
            .await
            .map_err(|_| FrameError::TimedOut(deadline))??;
        Ok(Attached {
            connection,
            generation,
            boot,
            epoch,
            table,
            send,
            receive,
        })
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
            table,
            send,
            receive,
        } = attached;
        if generation <= self.streams.generation() {
            return None;
        }
        let before = {
            let mut known_by = self.known_by.lock().unwrap_or_else(PoisonError::into_inner);
            known_by.replace((boot, epoch))
        };
        let installed = match before {
            None => Installed::Began,
            Some((_, before)) if before == epoch => Installed::Resumed,
            Some((before, _)) => {
                self.serving.send_replace(false);
                Installed::Lost {
                    streams: self.streams.lose(),
                    other_agent: before != boot,
                }
            }
        };
        if !self.streams.resume(generation, table) {
            return None;
        }
        self.carrier.send_replace(Some(Carrier {
            generation,
            connection,
        }));
        Some((installed, ControlStream { send, receive }))
    }

    /// The agent that knew the session is gone: everything it may have known is reset.
    pub fn lose(&self) -> usize {
        self.serving.send_replace(false);
        self.streams.lose()
    }

    /// The session's beginning at the agent that knows it; none before the first connection.
    #[must_use]
    pub fn known_by(&self) -> Option<Epoch> {
        let known_by = self.known_by.lock().unwrap_or_else(PoisonError::into_inner);
        known_by.map(|(_, epoch)| epoch)
    }

    /// The workload runs at the agent of `epoch`: connections to it can be made, unless that one is gone.
    pub fn serve(&self, epoch: Option<Epoch>) {
        if epoch == self.known_by() {
            self.serving.send_replace(true);
        }
    }

    /// Talks on the control stream for as long as the connection carries the session.
    pub async fn talk(&self, connection: &Connection, stream: &mut ControlStream) -> Parted {
        let heard = async {
            loop {
                match control::hear(&mut stream.receive).await? {
                    Control::Restarting => return Ok::<_, FrameError>(()),
                    control if self.streams.hear(&control) => {}
                    _ => return Err(FrameError::Ended),
                }
            }
        };
        let failed = tokio::select! {
            _ = connection.closed() => None,
            heard = heard => match heard {
                Ok(()) => return Parted::Restarting,
                Err(error) => Some(error),
            },
            Err(error) = control::tell(&self.streams, &mut stream.send) => Some(error),
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
                    Some(close) => Parted::Closed(close),
                    None => Parted::Lost(ConnectionError::ApplicationClosed(close)),
                }
            }
            error => Parted::Lost(error),
        }
    }

    /// Has the agent acknowledge something, so that its silence tells.
    pub fn ask_for_a_sign(&self) {
        self.streams.tell(Control::Progress(Vec::new()));
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
        if matches!(target, Target::Workload { .. }) {
            let mut serving = self.serving.subscribe();
            let served = timeout(SERVED, serving.wait_for(|serving| *serving)).await;
            if !matches!(served, Ok(Ok(_))) {
                return Err(ResetCode::SessionLost);
            }
        }
        let (given_up, mut legs) = self.open(StreamHeader::Forward(target));
        let ended = given_up.0.carry(&socket, &mut legs).await;
        match ended {
            Ended::Complete => Ok(()),
            Ended::Reset(reset) => Err(reset.code()),
        }
    }

    /// Sends a request; its events follow.
    ///
    /// # Errors
    /// When this process is out of descriptors.
    pub fn request(self: &Arc<Self>, request: Request) -> std::io::Result<Events> {
        let (ours, theirs) = UnixStream::pair()?;
        let (given_up, mut legs) = self.open(StreamHeader::Request(request));
        self.tasks.spawn(async move {
            let theirs = Socket::from(theirs);
            let ended = given_up.0.carry(&theirs, &mut legs).await;
            tracing::debug!(?ended, "request");
        });
        Ok(Events { receive: ours })
    }

    fn open(&self, header: StreamHeader) -> (GivenUp, Offers) {
        let stream = self.streams.open();
        let offers = Offers {
            stream: stream.clone(),
            header,
            carrier: self.carrier.subscribe(),
            used: 0,
        };
        (GivenUp(stream), offers)
    }

    /// The session is over here: its streams are reset.
    pub async fn end(&self) {
        self.streams.end();
        self.tasks.close();
        self.tasks.wait().await;
        self.streams.clear().await;
    }
}

/// A stream whose work may be dropped: then it is reset.
struct GivenUp(Arc<Stream>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        // Changes nothing for one that is complete.
        self.0.reset(ResetCode::ConnectionReset);
    }
}

/// The legs of a stream: one on each connection that comes to carry the session.
struct Offers {
    stream: Arc<Stream>,
    header: StreamHeader,
    carrier: watch::Receiver<Option<Carrier>>,
    /// Generation of the last one.
    used: u64,
}

impl Offers {
    async fn offer(&self, carrier: &Carrier) -> Option<Leg> {
        let (send, receive) = carrier.connection.open_bi().await.ok()?;
        let (mut send, receive) = (Sender::new(send), Receiver::new(receive));
        let (open, at) = {
            let mut core = self.stream.core();
            if !core.offer(carrier.generation) {
                return None;
            }
            let at = core.inbox().received();
            let open = Open {
                stream: core.id(),
                from: core.outbox().sent(),
                received: at,
                header: (!core.is_confirmed()).then(|| self.header.clone()),
            };
            (open, at)
        };
        let frame = match codec::encode(&open, limits::HEADER_FRAME) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%error, "a header that cannot be sent");
                self.stream.reset(ResetCode::BadHeader);
                return None;
            }
        };
        send.stream().write_chunk(frame.into()).await.ok()?;
        Some(Leg {
            generation: carrier.generation,
            send,
            receive,
            at,
        })
    }
}

impl Legs for Offers {
    async fn next(&mut self) -> Leg {
        loop {
            let used = self.used;
            let newer = |carrier: &Option<Carrier>| carrier.as_ref().is_some_and(|c| c.generation > used);
            let newest = self.carrier.wait_for(newer).await.map(|carrier| carrier.clone());
            let Ok(Some(carrier)) = newest else {
                // The session is being dropped.
                return std::future::pending().await;
            };
            let leg = self.offer(&carrier).await;
            self.used = carrier.generation;
            if let Some(leg) = leg {
                return leg;
            }
        }
    }
}

impl Events {
    /// The next event. Nothing follows a final one.
    ///
    /// # Errors
    /// When the session was lost or the agent speaks nonsense.
    pub async fn next(&mut self) -> Result<Event, FrameError> {
        codec::read(&mut self.receive, limits::CONTROL_FRAME).await
    }
}

/// What a refused forward means, for a note to the user. None for an ordinary end.
#[must_use]
pub fn explain(code: ResetCode) -> Option<&'static str> {
    match code {
        ResetCode::Refused => Some("nothing listens there"),
        ResetCode::Unreachable => Some("the host cannot reach it"),
        ResetCode::TimedOut => Some("it does not answer"),
        ResetCode::NoWorkload => Some("the container does not run"),
        _ => None,
    }
}
