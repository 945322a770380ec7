//! One client: its connection, its requests, and the streams it forwards.

use std::sync::Arc;

use jq_common::{
    codec::{self, FrameError},
    forward::{Sender, forward},
    identity::Fingerprint,
    protocol::{
        control::{Event, Failure, FailureKind, Request, WorkloadSpec},
        limits,
        stream::{ResetCode, StreamHeader, Target},
    },
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Shared, dialer};
use crate::workload::{EventSink, Network};

/// How many events wait for a slow client before the work waits too.
const EVENTS: usize = 64;

/// A connected client.
pub(super) struct Session {
    connection: Connection,
    shared: Arc<Shared>,
    /// The network of the workload that this client started, once it has.
    network: watch::Sender<Option<Arc<Network>>>,
    streams: TaskTracker,
    /// Cancelled with the connection: a stream may be busy with its socket alone and not notice.
    gone: CancellationToken,
}

impl Session {
    pub(super) fn new(connection: Connection, shared: Arc<Shared>) -> Self {
        Self {
            connection,
            shared,
            network: watch::Sender::new(None),
            streams: TaskTracker::new(),
            gone: CancellationToken::new(),
        }
    }

    /// Serves the client until it leaves or `stop` is cancelled; its streams are then reset.
    pub(super) async fn run(self, stop: CancellationToken) {
        let shared = self.shared.clone();
        let _presence = shared.lifetime.enter();
        let client = Fingerprint::of_peer(&self.connection);
        tracing::info!(?client, "client connected");
        let session = Arc::new(self);
        let ended = stop.run_until_cancelled(session.clone().accept_streams()).await;
        match ended {
            Some(error) => tracing::info!(%error, "client left"),
            None => session
                .connection
                .close(VarInt::from_u32(0), b"the agent is ending"),
        }
        session.gone.cancel();
        session.streams.close();
        session.streams.wait().await;
        if let Some(client) = client {
            shared.allowed.forget(&client);
        }
    }

    async fn accept_streams(self: Arc<Self>) -> ConnectionError {
        loop {
            match self.connection.accept_bi().await {
                Ok((send, receive)) => {
                    let session = self.clone();
                    let gone = self.gone.clone();
                    self.streams.spawn(async move {
                        gone.run_until_cancelled(session.serve_stream(Sender::new(send), receive))
                            .await
                    });
                }
                Err(error) => return error,
            }
        }
    }

    async fn serve_stream(&self, mut send: Sender, mut receive: RecvStream) {
        match codec::read_within(&mut receive, limits::HEADER_FRAME, limits::FIRST_FRAME).await {
            Ok(StreamHeader::Request(Request::Start(spec))) => {
                if let Err(error) = self.start(*spec, send.stream()).await {
                    tracing::info!(%error, "client left during a request");
                } else {
                    send.finish();
                }
            }
            Ok(StreamHeader::Forward(target)) => self.forward(&target, send, receive).await,
            Err(error) => {
                tracing::info!(%error, "bad stream header");
                refuse(send, receive, ResetCode::BadHeader);
            }
        }
    }

    /// Starts the workload. The work belongs to the agent and not to the connection, so that a client that leaves in
    /// the middle leaves nothing half made.
    async fn start(&self, spec: WorkloadSpec, send: &mut SendStream) -> Result<(), FrameError> {
        let (events, mut happening) = mpsc::channel(EVENTS);
        let (workloads, network) = (self.shared.workloads.clone(), self.network.clone());
        let shared = self.shared.clone();
        self.shared.work.spawn(async move {
            let _presence = shared.lifetime.enter();
            let sink = EventSink::new(events.clone());
            let last = match workloads.start(&spec, &sink).await {
                Ok(started) => {
                    network.send_replace(Some(started.network));
                    Event::Ready(Box::new(started.ready))
                }
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
        let failure = Failure {
            kind: FailureKind::Internal,
            what: "the agent gave up".to_owned(),
            why: "a fault in the agent; its log on the host says more".to_owned(),
            hint: String::new(),
        };
        codec::write(send, &Event::Failed(failure), limits::CONTROL_FRAME).await
    }

    async fn forward(&self, target: &Target, send: Sender, receive: RecvStream) {
        let network = self.network.borrow().clone();
        match dialer::dial(target, network.as_deref()).await {
            Ok(tcp) => match forward(tcp, send, receive).await {
                Ok(copied) => tracing::debug!(?target, ?copied, "forward ended"),
                Err(error) => tracing::debug!(?target, %error, "forward reset"),
            },
            Err(code) => {
                tracing::debug!(?target, ?code, "forward refused");
                refuse(send, receive, code);
            }
        }
    }
}

fn refuse(mut send: Sender, mut receive: RecvStream, code: ResetCode) {
    send.reset(code);
    // Fails only when the stream has ended already.
    let _ = receive.stop(code.to_wire());
}
