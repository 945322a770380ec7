//! Works on a stream: answers its request, or proxies its connection.

use std::{pin::pin, sync::Arc};

use jq_common::{
    codec::{self, FrameError},
    protocol::{
        limits,
        stream::{Opened, ResetCode, StreamHeader},
        target::{Scope, Target},
        workload::{Event, FailureKind, Request, WorkloadSpec},
    },
    session::{
        leg::{Leg, LegSource},
        socket::Socket,
        stream::{Ended, Stream},
    },
};
use tokio::{
    net::UnixStream,
    sync::{OwnedSemaphorePermit, mpsc},
};

use super::{Session, Suspended, Work};
use crate::{
    failure::fail,
    serve::{context::Context, dialer},
    workload::EventSink,
};

/// Events that wait for a slow client before the work waits too.
const EVENTS: usize = 64;

impl Session {
    /// Starts a task that does the work of a stream.
    pub(super) fn work(self: &Arc<Self>, context: &Arc<Context>, stream: Arc<Stream>, work: Work) {
        let (sender, legs) = mpsc::unbounded_channel();
        self.legs().insert(stream.id(), sender);
        let (session, context) = (self.clone(), context.clone());
        self.workers.spawn(async move {
            let legs = &mut OpenedLegs(legs);
            let suspended = match work {
                Work::Start(StreamHeader::Request(Request::Start(spec))) => {
                    session.request(&context, spec, &stream, legs).await
                }
                Work::Start(StreamHeader::Forward { target, confirm }) => {
                    session.forward(&context, (target, confirm), &stream, legs).await
                }
                Work::Start(
                    StreamHeader::Wait { .. } | StreamHeader::Exec(_) | StreamHeader::Datagrams { .. },
                ) => {
                    // Not announced: no client of today's asks for it.
                    stream.reset(ResetCode::Unsupported);
                    None
                }
                Work::Proxy(socket) => session.proxy(&stream, socket, legs).await,
            };
            session.legs().remove(&stream.id());
            if let Some(suspended) = suspended {
                session.suspend_work(stream.id(), suspended);
            }
        });
    }

    async fn request(
        self: &Arc<Self>,
        context: &Arc<Context>,
        spec: Box<WorkloadSpec>,
        stream: &Arc<Stream>,
        legs: &mut OpenedLegs,
    ) -> Option<Suspended> {
        let Ok(turn) = self.requests.clone().try_acquire_owned() else {
            stream.reset(ResetCode::TooMany);
            return None;
        };
        let permit = tokio::select! {
            permit = context.quiesce.acquire() => permit,
            () = stream.settles() => return None,
            () = self.streams.ended() => {
                stream.reset(ResetCode::SessionLost);
                return None;
            }
            () = self.freezing.cancelled() => {
                return Some(Suspended::NotStarted(StreamHeader::Request(Request::Start(spec))));
            }
        };
        let Ok((mut ours, theirs)) = UnixStream::pair() else {
            stream.reset(ResetCode::ShuttingDown);
            return None;
        };
        let answered = async {
            if let Err(error) = self.start(context, *spec, turn, &mut ours).await {
                tracing::debug!(%error, "the client left during a request");
            }
            drop(ours);
            drop(permit);
        };
        let mut proxied = pin!(self.proxy(stream, theirs.into(), legs));
        tokio::select! {
            // The stream ended before all events were sent: the work continues alone.
            suspended = &mut proxied => suspended,
            () = answered => proxied.await,
        }
    }

    /// Proxies a socket until its stream ends, or until an upgrade: then returns the socket.
    async fn proxy(&self, stream: &Arc<Stream>, socket: Socket, legs: &mut OpenedLegs) -> Option<Suspended> {
        let proxying = self.streams.proxy(stream, &socket, legs);
        let Some(ended) = self.freezing.run_until_cancelled(proxying).await else {
            return Suspended::socket(socket);
        };
        if let Ended::Reset(code) = ended {
            tracing::debug!(stream = stream.id(), ?code, "reset");
        }
        None
    }

    /// Starts the workload. The start is a task of the agent rather than of the session, so that a client that leaves
    /// in the middle leaves nothing half created.
    async fn start(
        self: &Arc<Self>,
        context: &Arc<Context>,
        spec: WorkloadSpec,
        turn: OwnedSemaphorePermit,
        send: &mut UnixStream,
    ) -> Result<(), FrameError> {
        let (events, mut received) = mpsc::channel(EVENTS);
        let (session, work) = (self.clone(), context.clone());
        let permit = context.quiesce.acquire_another();
        context.work.spawn(async move {
            let _held = (permit, turn);
            let _activity = work.idle.begin_activity();
            let sink = EventSink::new(events.clone());
            session.change_workload(|workload| workload.starting += 1);
            let started = work.workloads.start(&spec, &sink).await;
            session.change_workload(|workload| {
                workload.starting -= 1;
                if let Ok(started) = &started {
                    workload.spec = Some(spec);
                    workload.runs(started);
                }
            });
            if started.is_ok() {
                session.watch(&work);
            }
            let last = match started {
                Ok(started) => Event::Ready(Box::new(started.ready)),
                Err(failure) => Event::Failed(failure),
            };
            // Fails only when the client has left.
            let _ = events.send(last).await;
        });
        while let Some(event) = received.recv().await {
            codec::write(send, &event, limits::CONTROL_FRAME).await?;
            if event.is_final() {
                return Ok(());
            }
        }
        let failure = fail(
            FailureKind::Internal,
            "the agent failed to start the workload",
            "internal error; see the agent's log on the host",
            "",
        );
        codec::write(send, &Event::Failed(failure), limits::CONTROL_FRAME).await
    }

    async fn forward(
        &self,
        context: &Context,
        (target, confirm): (Target, bool),
        stream: &Arc<Stream>,
        legs: &mut OpenedLegs,
    ) -> Option<Suspended> {
        let dialled = tokio::select! {
            dialled = self.dial(context, &target) => dialled,
            // Reset by the client meanwhile, or with the session.
            () = stream.settles() => return None,
            () = self.streams.ended() => Err(ResetCode::SessionLost),
            () = self.freezing.cancelled() => {
                return Some(Suspended::NotStarted(StreamHeader::Forward { target, confirm }));
            }
        };
        let opened = dialled.and_then(|socket| {
            if confirm {
                let opened = codec::encode(&Opened::default(), limits::REPLY_FRAME);
                stream.send_first(opened.map_err(|_| ResetCode::Unsupported)?.into());
            }
            Ok(socket)
        });
        match opened {
            Ok(socket) => self.proxy(stream, socket, legs).await,
            Err(code) => {
                tracing::debug!(?target, ?code, "connection refused");
                stream.reset(code);
                None
            }
        }
    }

    async fn dial(&self, context: &Context, target: &Target) -> Result<Socket, ResetCode> {
        if target.scope == Scope::Host {
            return dialer::dial(target, None).await;
        }
        loop {
            context.quiesce.resumed().await;
            let running = self.running().await;
            tokio::select! {
                biased;
                // The helper is being removed for an upgrade: a refusal now may be due to that, so try again
                // afterwards.
                () = context.quiesce.started() => {}
                dialled = dialer::dial(target, running.as_deref()) => return dialled,
            }
        }
    }
}

/// The QUIC streams that the client opens for a stream; the newest is used.
struct OpenedLegs(mpsc::UnboundedReceiver<Leg>);

impl LegSource for OpenedLegs {
    async fn next(&mut self) -> Leg {
        let Some(mut leg) = self.0.recv().await else {
            return std::future::pending().await;
        };
        while let Ok(newer) = self.0.try_recv() {
            leg = newer;
        }
        leg
    }
}
