//! What a stream is for, done: a request answered, a connection forwarded.

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
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, mpsc},
};

use super::{Left, Session, Work};
use crate::{
    failure::fail,
    serve::{context::Context, dialer},
    workload::EventSink,
};

/// How many events wait for a slow client before the work waits too.
const EVENTS: usize = 64;

impl Session {
    /// Does what a stream is for.
    pub(super) fn work(self: &Arc<Self>, context: &Arc<Context>, stream: Arc<Stream>, work: Work) {
        let (sender, legs) = mpsc::unbounded_channel();
        self.legs().insert(stream.id(), sender);
        let (session, context) = (self.clone(), context.clone());
        self.workers.spawn(async move {
            let legs = &mut Arriving(legs);
            let left = match work {
                Work::Begin(StreamHeader::Request(Request::Start(spec))) => {
                    session.request(&context, spec, &stream, legs).await
                }
                Work::Begin(StreamHeader::Forward { target, confirm }) => {
                    session.forward(&context, (target, confirm), &stream, legs).await
                }
                Work::Begin(
                    StreamHeader::Wait { .. } | StreamHeader::Exec(_) | StreamHeader::Datagrams { .. },
                ) => {
                    // Not announced: no client of today's asks for it.
                    stream.reset(ResetCode::Unsupported);
                    None
                }
                Work::Carry(socket) => session.carry(&stream, socket, legs).await,
            };
            session.legs().remove(&stream.id());
            if let Some(left) = left {
                session.leave_work(stream.id(), left);
            }
        });
    }

    async fn request(
        self: &Arc<Self>,
        context: &Arc<Context>,
        spec: Box<WorkloadSpec>,
        stream: &Arc<Stream>,
        legs: &mut Arriving,
    ) -> Option<Left> {
        let Ok(turn) = self.requests.clone().try_acquire_owned() else {
            stream.reset(ResetCode::TooMany);
            return None;
        };
        let permit = tokio::select! {
            permit = context.quiesce.enter() => permit,
            () = stream.settles() => return None,
            () = self.streams.ended() => {
                stream.reset(ResetCode::SessionLost);
                return None;
            }
            () = self.freezing.cancelled() => {
                return Some(Left::Begin(StreamHeader::Request(Request::Start(spec))));
            }
        };
        let Ok((mut ours, theirs)) = UnixStream::pair() else {
            stream.reset(ResetCode::ShuttingDown);
            return None;
        };
        let told = async {
            if let Err(error) = self.start(context, *spec, turn, &mut ours).await {
                tracing::debug!(%error, "client left during a request");
            }
            drop(ours);
            drop(permit);
        };
        let mut carried = pin!(self.carry(stream, theirs.into(), legs));
        tokio::select! {
            // Given up before all was told: the work goes on alone.
            left = &mut carried => left,
            () = told => carried.await,
        }
    }

    /// Carries a socket until its stream is over, or until the session moves: then the socket is left.
    async fn carry(&self, stream: &Arc<Stream>, socket: Socket, legs: &mut Arriving) -> Option<Left> {
        let carrying = self.streams.proxy(stream, &socket, legs);
        let Some(ended) = self.freezing.run_until_cancelled(carrying).await else {
            return Left::socket(socket);
        };
        if let Ended::Reset(code) = ended {
            tracing::debug!(stream = stream.id(), ?code, "reset");
        }
        None
    }

    /// Starts the workload. The work belongs to the agent and not to the session, so that a client that leaves in the
    /// middle leaves nothing half made.
    async fn start(
        self: &Arc<Self>,
        context: &Arc<Context>,
        spec: WorkloadSpec,
        turn: OwnedSemaphorePermit,
        send: &mut UnixStream,
    ) -> Result<(), FrameError> {
        let (events, mut happening) = mpsc::channel(EVENTS);
        let (session, work) = (self.clone(), context.clone());
        let permit = context.quiesce.again();
        context.work.spawn(async move {
            let _held = (permit, turn);
            let _presence = work.idle.enter();
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
            let last = match started {
                Ok(started) => Event::Ready(Box::new(started.ready)),
                Err(failure) => Event::Failed(failure),
            };
            // Fails only when the client has left.
            let _ = events.send(last).await;
        });
        while let Some(event) = happening.recv().await {
            codec::write(send, &event, limits::CONTROL_FRAME).await?;
            if event.is_final() {
                return Ok(());
            }
        }
        let failure = fail(
            FailureKind::Internal,
            "the agent gave up",
            "a fault in the agent; its log on the host says more",
            "",
        );
        codec::write(send, &Event::Failed(failure), limits::CONTROL_FRAME).await
    }

    async fn forward(
        &self,
        context: &Context,
        (target, confirm): (Target, bool),
        stream: &Arc<Stream>,
        legs: &mut Arriving,
    ) -> Option<Left> {
        let dialled = tokio::select! {
            dialled = self.dial(context, &target) => dialled,
            // Given up by the client meanwhile, or with the session.
            () = stream.settles() => return None,
            () = self.streams.ended() => Err(ResetCode::SessionLost),
            () = self.freezing.cancelled() => {
                return Some(Left::Begin(StreamHeader::Forward { target, confirm }));
            }
        };
        let opened = dialled.and_then(|tcp| {
            if confirm {
                let opened = codec::encode(&Opened::default(), limits::REPLY_FRAME);
                stream.send_first(opened.map_err(|_| ResetCode::Unsupported)?.into());
            }
            Ok(tcp)
        });
        match opened {
            Ok(tcp) => self.carry(stream, tcp.into(), legs).await,
            Err(code) => {
                tracing::debug!(?target, ?code, "forward refused");
                stream.reset(code);
                None
            }
        }
    }

    async fn dial(&self, context: &Context, target: &Target) -> Result<TcpStream, ResetCode> {
        if target.scope == Scope::Host {
            return dialer::dial(target, None).await;
        }
        loop {
            context.quiesce.opened().await;
            let running = self.running().await;
            tokio::select! {
                biased;
                // The way in is being taken away, for another to come: what was refused may be refused for that.
                () = context.quiesce.closed() => {}
                dialled = dialer::dial(target, running.as_deref()) => return dialled,
            }
        }
    }
}

/// Legs as the client opens them.
struct Arriving(mpsc::UnboundedReceiver<Leg>);

impl LegSource for Arriving {
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
