//! One connection of a client: it carries the client's session until it is lost or another one does.

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

use super::{session::Session, sessions::Attached, shared::Shared, subscriptions::Updates};

/// Most streams of a connection whose first frame is being read at once. Each may take [`limits::HEADER_FRAME`] of memory.
const OPENING: usize = 256;

/// For how many more streams than there are room is made at once.
const ROOM_STEP: usize = 64;

/// Serves a connection whose certificate was let in, until it is lost; then waits for the client to come back by another
/// for as long as it wished. Ends everything once `stop` is cancelled.
pub(super) async fn serve(connection: Connection, shared: Arc<Shared>, stop: CancellationToken) {
    let Some(client) = Fingerprint::of_peer(&connection) else {
        return;
    };
    let carrying = stop.run_until_cancelled(carry(&connection, client, &shared));
    let (session, generation, how) = match carrying.await {
        Some(Ok(carried)) => carried,
        Some(Err(error)) => {
            tracing::info!(?client, %error, "no session");
            return Close::Refused.close(&connection);
        }
        None => return Close::Ending.close(&connection),
    };
    let leaves = match how {
        Parted::Left => true,
        Parted::Lost => {
            // Where it lives still, what came was nonsense.
            Close::Refused.close(&connection);
            // It holds much memory, and the wait may be long.
            drop(connection);
            match session.leave(generation) {
                Some(keep) => {
                    // The agent stays as long as the session is kept, whatever other clients wished.
                    let _kept = shared.context.idle.enter();
                    wait(&session, generation, keep, &stop).await
                }
                None => false,
            }
        }
    };
    if leaves {
        end(&session, &shared).await;
    }
}

/// Keeps a session that nothing carries since the connection of `generation` for `keep`, and then ends it.
pub(super) async fn keep(
    session: Arc<Session>,
    (generation, keep): (u64, std::time::Duration),
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let kept = shared.context.idle.enter();
    let over = wait(&session, generation, keep, &stop).await;
    drop(kept);
    if over {
        end(&session, &shared).await;
    }
}

async fn end(session: &Arc<Session>, shared: &Shared) {
    tracing::info!(client = ?session.client(), "session over");
    session.end(Close::Left).await;
    shared.sessions.remove(session);
}

/// Returns whether the session is over: nobody has come back to it in time.
async fn wait(
    session: &Arc<Session>,
    generation: u64,
    keep: std::time::Duration,
    stop: &CancellationToken,
) -> bool {
    tokio::select! {
        () = sleep(keep) => session.is_left_by(generation),
        () = session.carried_again(generation) => false,
        () = session.streams().ended() => false,
        () = stop.cancelled() => true,
    }
}

/// How a client parted from a connection.
enum Parted {
    /// It said that the session is over.
    Left,
    /// The connection was lost, or replaced.
    Lost,
}

/// Makes the connection carry a session, and serves it until it is lost.
async fn carry(
    connection: &Connection,
    client: Fingerprint,
    shared: &Arc<Shared>,
) -> Result<(Arc<Session>, u64, Parted), FrameError> {
    let first = timeout(limits::FIRST_FRAME, connection.accept_bi());
    let (mut send, mut receive) = first
        .await
        .map_err(|_| FrameError::TimedOut(limits::FIRST_FRAME))?
        .map_err(std::io::Error::from)?;
    // What is told here frees what all other streams wait for.
    let _ = send.set_priority(CONTROL_PRIORITY);
    let attach: Attach = codec::read_within(&mut receive, limits::CONTROL_FRAME, limits::FIRST_FRAME).await?;
    let (session, table) = match shared.sessions.attach(client, &attach, connection) {
        Attached::Carried {
            session,
            table,
            ended,
        } => {
            for old in ended {
                old.end(Close::Superseded).await;
            }
            (session, table)
        }
        Attached::Stale => return refuse(send, &AttachReply::Stale).await,
        Attached::Busy => return refuse(send, &AttachReply::Busy).await,
    };
    let presence = shared.context.idle.enter();
    let generation = attach.generation;
    // Only now: room for the streams is made at once.
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(limits::STREAMS));
    let room = Room::new(connection, table.len());
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
        error = talk(connection, &session, (reply, table), updates, (&mut send, &mut receive)) => tracing::debug!(%error, "control stream"),
        () = accept(room, generation, &session, shared) => {}
    }
    let parted = match connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(close))
            if Close::from_wire(close.error_code.into_inner()) == Some(Close::Left) =>
        {
            Parted::Left
        }
        _ => Parted::Lost,
    };
    drop(presence);
    tracing::info!(?client, generation, "detached");
    Ok((session, generation, parted))
}

async fn refuse<T>(mut send: SendStream, reply: &AttachReply) -> Result<T, FrameError> {
    codec::write(&mut send, reply, limits::CONTROL_FRAME).await?;
    let _ = send.finish();
    // Until the client has read it, or has gone.
    let _ = timeout(limits::FIRST_FRAME, send.stopped()).await;
    Err(FrameError::Ended)
}

/// The control stream. Returns why it is lost.
async fn talk(
    connection: &Connection,
    session: &Arc<Session>,
    (reply, table): (AttachReply, Vec<Entry>),
    mut updates: Updates,
    (send, receive): (&mut SendStream, &mut RecvStream),
) -> FrameError {
    let told = async {
        codec::write(send, &reply, limits::CONTROL_FRAME).await?;
        control::send_table(send, &table).await?;
        control::run_sender(session.streams(), &mut updates, send).await
    };
    let heard = async {
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
    let never: Result<(Infallible, Infallible), FrameError> = tokio::try_join!(told, heard);
    match never {
        Ok((never, _)) => match never {},
        Err(error) => error,
    }
}

/// The room for what a client's streams have under way.
struct Room {
    connection: Connection,
    /// How many streams it is for.
    streams: Mutex<usize>,
}

impl Room {
    fn new(connection: &Connection, streams: usize) -> Arc<Self> {
        connection.set_receive_window(quic::window(streams));
        Arc::new(Self {
            connection: connection.clone(),
            streams: Mutex::new(streams),
        })
    }

    /// Makes room for `streams` streams at least.
    fn make(&self, streams: usize) {
        let mut there = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams > *there {
            *there = streams + ROOM_STEP;
            self.connection.set_receive_window(quic::window(*there));
        }
    }
}

/// Takes the streams that the client opens. Returns when the connection is lost.
async fn accept(room: Arc<Room>, generation: u64, session: &Arc<Session>, shared: &Arc<Shared>) {
    let opening = TaskTracker::new();
    let lost = CancellationToken::new();
    let _lost = lost.clone().drop_guard();
    let opens = Arc::new(Semaphore::new(OPENING));
    // It is never closed. Once the connection is lost, all that is being read fails and makes room.
    while let Ok(permit) = opens.clone().acquire_owned().await {
        let Ok((send, mut receive)) = room.connection.accept_bi().await else {
            return;
        };
        let (session, shared, lost, room) = (session.clone(), shared.clone(), lost.clone(), room.clone());
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
                    room.make(session.streams().len());
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a stream without a header");
                    send.reset(ResetCode::BadHeader);
                    let _ = receive.stop(ResetCode::BadHeader.to_wire());
                }
                None => {}
            }
        });
    }
}

/// All sessions end with the agent.
pub(super) async fn end_all(shared: &Shared) {
    for session in shared.sessions.all() {
        session.end(Close::Ending).await;
        shared.sessions.remove(&session);
    }
}
