//! One QUIC connection of a client: it carries the client's session until it is lost or replaced.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use jq_common::{
    codec::{self, FrameError},
    identity::Fingerprint,
    protocol::{
        capabilities::Capabilities,
        limits,
        session::{Attach, AttachReply, Close, Control, Entry, Open},
        stream::ResetCode,
    },
    quic,
    session::{
        control::{self, CONTROL_PRIORITY},
        leg::{Leg, Receiver, Sender},
    },
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{session::Session, sessions::AttachResult, shared::Shared, subscriptions::Updates};

/// Most streams of a connection whose first frame is being read at once. Each may take [`limits::HEADER_FRAME`] bytes
/// of memory.
const OPENING: usize = 256;

/// The receive window grows for this many streams more than needed at once.
const WINDOW_STEP: usize = 64;

/// Serves a connection of an admitted client until it is lost, then waits for the client to reconnect for as long as it
/// requested. Ends the session when `stop` is cancelled.
pub(super) async fn serve(connection: Connection, shared: Arc<Shared>, stop: CancellationToken) {
    let Some(client) = Fingerprint::of_peer(&connection) else {
        return;
    };
    let attached = stop.run_until_cancelled(attach_and_serve(&connection, client, &shared));
    let (session, generation, how) = match attached.await {
        Some(Ok(detached)) => detached,
        Some(Err(error)) => {
            tracing::info!(?client, %error, "no session was attached");
            return Close::Refused.close(&connection);
        }
        None => return Close::Ending.close(&connection),
    };
    let leaves = match how {
        Detached::ByClient => true,
        Detached::Lost => {
            // If the connection is still open, the client violated the protocol.
            Close::Refused.close(&connection);
            // A connection holds much memory, and the wait may be long.
            drop(connection);
            match session.detach(generation) {
                Some(keep) => {
                    // The agent keeps running while a session is kept, whatever linger time other clients requested.
                    let _kept = shared.context.idle.begin_activity();
                    wait_for_reattach(&session, generation, keep, &stop).await
                }
                None => false,
            }
        }
    };
    if leaves {
        end(&session, &shared).await;
    }
}

/// Keeps a session that has had no connection since that of `generation` for `keep`, then ends it.
pub(super) async fn keep_detached(
    session: Arc<Session>,
    (generation, keep): (u64, std::time::Duration),
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let kept = shared.context.idle.begin_activity();
    let over = wait_for_reattach(&session, generation, keep, &stop).await;
    drop(kept);
    if over {
        end(&session, &shared).await;
    }
}

async fn end(session: &Arc<Session>, shared: &Shared) {
    tracing::info!(client = ?session.client(), "session ended");
    session.end(Close::Left).await;
    shared.sessions.remove(session);
}

/// Waits for another connection of the session. Returns true when the session is over.
async fn wait_for_reattach(
    session: &Arc<Session>,
    generation: u64,
    keep: std::time::Duration,
    stop: &CancellationToken,
) -> bool {
    tokio::select! {
        () = sleep(keep) => session.is_detached_since(generation),
        () = session.reattached(generation) => false,
        () = session.streams().ended() => false,
        () = stop.cancelled() => true,
    }
}

/// Why a connection no longer carries its session.
enum Detached {
    /// The client ended the session.
    ByClient,
    /// The connection was lost, or replaced.
    Lost,
}

/// Attaches the connection to a session and serves it until the connection is lost.
async fn attach_and_serve(
    connection: &Connection,
    client: Fingerprint,
    shared: &Arc<Shared>,
) -> Result<(Arc<Session>, u64, Detached), FrameError> {
    let first = timeout(limits::FIRST_FRAME, connection.accept_bi());
    let (mut send, mut receive) = first
        .await
        .map_err(|_| FrameError::TimedOut(limits::FIRST_FRAME))?
        .map_err(std::io::Error::from)?;
    // Acknowledgements sent here let all other streams continue.
    let _ = send.set_priority(CONTROL_PRIORITY);
    let attach: Attach = codec::read_within(&mut receive, limits::CONTROL_FRAME, limits::FIRST_FRAME).await?;
    let (session, table) = match shared.sessions.attach(client, &attach, connection) {
        AttachResult::Attached {
            session,
            table,
            ended,
        } => {
            for old in ended {
                old.end(Close::Superseded).await;
            }
            (session, table)
        }
        AttachResult::Stale => return refuse(send, &AttachReply::Stale).await,
        AttachResult::Busy => return refuse(send, &AttachReply::Busy).await,
    };
    let activity = shared.context.idle.begin_activity();
    let generation = attach.generation;
    // Not before the session is attached: quinn allocates for all permitted streams at once.
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(limits::STREAMS));
    let window = ReceiveWindow::new(connection, table.len());
    tracing::info!(?client, generation, streams = table.len(), "attached");
    let reply = AttachReply::Attached {
        boot: shared.sessions.boot(),
        epoch: session.epoch(),
        capabilities: Capabilities::OURS,
    };
    let capabilities = attach.capabilities.shared(Capabilities::OURS);
    let updates = session
        .subscriptions()
        .updates(capabilities.has(Capabilities::SUBSCRIBE));
    tokio::select! {
        error = run_control_stream(connection, &session, (reply, table), updates, (&mut send, &mut receive)) => {
            tracing::debug!(%error, "control stream ended");
        }
        () = accept_streams(window, generation, &session, shared) => {}
    }
    let detached = match connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(close))
            if Close::from_wire(close.error_code.into_inner()) == Some(Close::Left) =>
        {
            Detached::ByClient
        }
        _ => Detached::Lost,
    };
    drop(activity);
    tracing::info!(?client, generation, "detached");
    Ok((session, generation, detached))
}

async fn refuse<T>(mut send: SendStream, reply: &AttachReply) -> Result<T, FrameError> {
    codec::write(&mut send, reply, limits::CONTROL_FRAME).await?;
    let _ = send.finish();
    // Until the client has read the reply, or has gone.
    let _ = timeout(limits::FIRST_FRAME, send.stopped()).await;
    Err(FrameError::Ended)
}

/// Runs the control stream. Returns why it ended.
async fn run_control_stream(
    connection: &Connection,
    session: &Arc<Session>,
    (reply, table): (AttachReply, Vec<Entry>),
    mut updates: Updates,
    (send, receive): (&mut SendStream, &mut RecvStream),
) -> FrameError {
    let send_all = async {
        codec::write(send, &reply, limits::CONTROL_FRAME).await?;
        control::send_table(send, &table).await?;
        control::run_sender(session.streams(), &mut updates, send).await
    };
    let receive_all = async {
        loop {
            let control = control::receive_frame(receive).await?;
            let path = connection.stats().path;
            session.streams().update_path(path.cwnd, path.rtt);
            match control {
                Control::Subscribe { topics } => session.subscriptions().subscribe(topics),
                control if session.streams().on_control(&control) => {}
                _ => return Err(FrameError::Ended),
            }
        }
    };
    let never: Result<(Infallible, Infallible), FrameError> = tokio::try_join!(send_all, receive_all);
    match never {
        Ok((never, _)) => match never {},
        Err(error) => error,
    }
}

/// The receive window of a connection.
struct ReceiveWindow {
    connection: Connection,
    /// The number of streams that the window is sized for.
    streams: Mutex<usize>,
}

impl ReceiveWindow {
    fn new(connection: &Connection, streams: usize) -> Arc<Self> {
        connection.set_receive_window(quic::window(streams));
        Arc::new(Self {
            connection: connection.clone(),
            streams: Mutex::new(streams),
        })
    }

    /// Grows the window so that it suffices for `streams` streams.
    fn grow(&self, streams: usize) {
        let mut sized_for = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams > *sized_for {
            *sized_for = streams + WINDOW_STEP;
            self.connection.set_receive_window(quic::window(*sized_for));
        }
    }
}

/// Accepts the streams that the client opens. Returns when the connection is lost.
async fn accept_streams(
    window: Arc<ReceiveWindow>,
    generation: u64,
    session: &Arc<Session>,
    shared: &Arc<Shared>,
) {
    let opening = TaskTracker::new();
    let lost = CancellationToken::new();
    let _lost = lost.clone().drop_guard();
    let opens = Arc::new(Semaphore::new(OPENING));
    // The semaphore is never closed. Once the connection is lost, all pending reads fail and release their permits.
    while let Ok(permit) = opens.clone().acquire_owned().await {
        let Ok((send, mut receive)) = window.connection.accept_bi().await else {
            return;
        };
        let (session, shared, lost, window) = (session.clone(), shared.clone(), lost.clone(), window.clone());
        opening.spawn(async move {
            let mut send = Sender::new(send);
            let open = codec::read_within::<Open>(&mut receive, limits::HEADER_FRAME, limits::FIRST_FRAME);
            let open = lost.run_until_cancelled(open).await;
            drop(permit);
            match open {
                Some(Ok(open)) => {
                    let leg = Leg {
                        generation,
                        send,
                        receive: Receiver::new(receive),
                        at: open.from,
                    };
                    session.open(&shared.context, &open, leg);
                    window.grow(session.streams().len());
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a stream had no valid header");
                    send.reset(ResetCode::BadHeader);
                    let _ = receive.stop(ResetCode::BadHeader.to_wire());
                }
                None => {}
            }
        });
    }
}

/// Ends all sessions when the agent shuts down.
pub(super) async fn end_all_sessions(shared: &Shared) {
    for session in shared.sessions.all() {
        session.end(Close::Ending).await;
        shared.sessions.remove(&session);
    }
}
