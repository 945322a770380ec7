//! Hands a session over from one process to its successor.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jq_common::{
    protocol::{
        limits,
        session::{Close, StreamId},
        stream::ResetCode,
    },
    session::{buffer_budget::BufferBudget, core::StreamCore, socket::Socket},
};
use quinn::Connection;
use tokio::{
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};

use super::{Carrier, Session, Suspended, Work, Workload};
use crate::{
    serve::{
        context::Context,
        handover::header::{SessionState, StreamState, WorkState},
    },
    workload::RunningWorkload,
};

/// Time limit for a connection to wait until the workload is found again.
const FIND_TIMEOUT: Duration = limits::DIAL.saturating_add(Duration::from_secs(5));

/// Interval between attempts to find the workload again: at first, and at most.
const FIND_INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl Suspended {
    /// Suspends a socket. None when it cannot be taken out of the runtime; its stream then breaks.
    pub(super) fn socket(socket: Socket) -> Option<Self> {
        match socket {
            Socket::Tcp(tcp) => Some(Self::Tcp(tcp.into_std().ok()?.into())),
            Socket::Unix(unix) => Some(Self::Unix(unix.into_std().ok()?.into())),
        }
    }
}

/// What a session hands over.
pub(crate) struct Exported {
    pub(crate) state: SessionState,
    /// Sockets of the streams, in the order of the streams that have one.
    pub(crate) sockets: Vec<OwnedFd>,
    /// Content of each stream's send buffer, in the order of the streams.
    pub(crate) send_buffers: Vec<Vec<Bytes>>,
}

impl Session {
    pub(super) fn suspend_work(&self, id: StreamId, suspended: Suspended) {
        self.suspended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, suspended);
    }

    /// Tells the client that the agent restarts, and suspends the work on all streams.
    pub(crate) fn freeze(&self) -> Option<Connection> {
        self.freezing.cancel();
        self.workers.close();
        let connection = self.connection()?;
        Close::Restarting.close(&connection);
        Some(connection)
    }

    /// Waits until all work is suspended and returns the session's state.
    pub(crate) async fn export(&self) -> Exported {
        self.workers.wait().await;
        let mut suspended =
            std::mem::take(&mut *self.suspended.lock().unwrap_or_else(PoisonError::into_inner));
        let mut streams = Vec::new();
        let mut sockets = Vec::new();
        let mut send_buffers = Vec::new();
        for stream in self.streams.all() {
            let id = stream.id();
            let Some((core, bytes)) = stream.core().snapshot() else {
                continue;
            };
            let work = match suspended.remove(&id) {
                _ if core.reset.is_some() => WorkState::Reset,
                Some(Suspended::NotStarted(header)) => WorkState::NotStarted(header),
                Some(Suspended::Tcp(socket)) => {
                    sockets.push(socket);
                    WorkState::Tcp
                }
                Some(Suspended::Unix(socket)) => {
                    sockets.push(socket);
                    WorkState::Unix
                }
                // The client has just opened the stream and has had no reply; it will open it again.
                None => continue,
            };
            streams.push(StreamState { id, core, work });
            send_buffers.push(bytes);
        }
        let (workload, status) = {
            let workload = self.workload.borrow();
            (workload.spec.clone(), workload.status())
        };
        let carrier = self.carrier();
        let state = SessionState {
            client: self.client,
            id: self.id,
            epoch: self.epoch,
            keep_s: carrier.keep.as_secs(),
            generation: carrier.generation,
            workload,
            engine: status.engine,
            container: status.container,
            topics: self.subscriptions.topics(),
            streams,
        };
        Exported {
            state,
            sockets,
            send_buffers,
        }
    }

    /// Restores a session. It takes its own part of `sockets` and `send_buffers`.
    pub(crate) fn restore(
        context: &Arc<Context>,
        budget: Arc<BufferBudget>,
        state: SessionState,
        sockets: &mut impl Iterator<Item = OwnedFd>,
        send_buffers: &mut impl Iterator<Item = Vec<Bytes>>,
    ) -> Arc<Self> {
        let generation = state.generation;
        let session = Arc::new(Self::new(state.client, state.id, state.epoch, budget));
        // None for a session that never had a connection: there is nothing to fence.
        let _ = session.streams.fence(generation);
        session.attached.send_replace(generation);
        session.subscriptions.subscribe(state.topics);
        *session.carrier() = Carrier {
            generation,
            keep: Duration::from_secs(state.keep_s),
            ..Carrier::default()
        };
        for stream in state.streams {
            let StreamState { id, core, work } = stream;
            let bytes = joined(send_buffers.next().unwrap_or_default());
            let work = match work {
                WorkState::NotStarted(header) => Some(Ok(Work::Start(header))),
                WorkState::Tcp => Some(sockets.next().ok_or(()).and_then(tcp)),
                WorkState::Unix => Some(sockets.next().ok_or(()).and_then(unix)),
                WorkState::Reset => None,
            };
            let Some(core) = StreamCore::restore(id, generation, &core, bytes) else {
                tracing::warn!(stream = id, "a stream's state cannot be restored");
                continue;
            };
            let stream = session.streams.adopt(core);
            match work {
                Some(Ok(work)) => session.work(context, stream, work),
                Some(Err(())) => stream.reset(ResetCode::ConnectionReset),
                None => {}
            }
        }
        if let Some(spec) = state.workload {
            session.change_workload(|workload| {
                *workload = Workload {
                    spec: Some(spec),
                    restoring: true,
                    engine: state.engine,
                    container: state.container,
                    ..Workload::default()
                };
            });
            session.find_workload(context);
        }
        session
    }

    /// Looks the workload up again until it is found.
    fn find_workload(self: &Arc<Self>, context: &Arc<Context>) {
        let (session, context) = (self.clone(), context.clone());
        self.workers.spawn(async move {
            tokio::select! {
                () = session.restore_workload(&context) => {}
                () = session.freezing.cancelled() => {}
                () = session.streams.ended() => {}
            }
        });
    }

    /// Finds the workload as it is now. Never starts it: what the user stopped or removed meanwhile stays so.
    async fn restore_workload(self: &Arc<Self>, context: &Arc<Context>) {
        let (mut pause, longest) = FIND_INTERVALS;
        loop {
            let (spec, in_container) = {
                let workload = self.workload.borrow();
                (workload.spec.clone(), workload.container.is_some())
            };
            let Some(spec) = spec else {
                return;
            };
            let found = context.workloads.find(&spec, in_container).await;
            if let Err(failure) = &found {
                tracing::warn!(?failure, "the workload was not found again");
            }
            let lacked = self.change_workload(|workload| {
                // The client may have started a workload meanwhile.
                let lacks = workload.running.is_none();
                if lacks {
                    workload.restoring = false;
                    if let Ok(running) = &found {
                        workload.running = Some(running.clone());
                    }
                }
                lacks
            });
            if lacked && found.is_ok() {
                self.watch(context);
            }
            if found.is_ok() || !lacked {
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// The workload, once it is found. None when there is none.
    pub(super) async fn running(&self) -> Option<Arc<dyn RunningWorkload>> {
        let mut workload = self.workload.subscribe();
        let found = timeout(FIND_TIMEOUT, workload.wait_for(|workload| !workload.restoring)).await;
        found.ok()?.ok()?.running.clone()
    }
}

fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    match chunks.len() {
        1 => chunks.remove(0),
        _ => chunks.concat().into(),
    }
}

fn tcp(socket: OwnedFd) -> Result<Work, ()> {
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true).map_err(drop)?;
    let tcp = TcpStream::from_std(socket).map_err(drop)?;
    Ok(Work::Proxy(tcp.into()))
}

fn unix(socket: OwnedFd) -> Result<Work, ()> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true).map_err(drop)?;
    let unix = UnixStream::from_std(socket).map_err(drop)?;
    Ok(Work::Proxy(unix.into()))
}
