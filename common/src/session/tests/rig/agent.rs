//! The agent's end: dials the target for every stream.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use quinn::Connection;
use tokio::{net::TcpStream, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    codec,
    protocol::{
        limits,
        session::{Open, StreamId},
        stream::ResetCode,
    },
    session::{
        buffer_budget::{self, BufferBudget},
        control,
        leg::{Leg, LegSource, Receiver, Sender},
        socket::Socket,
        stream::Stream,
        streams::{Opened, Streams},
    },
};

/// The agent's end.
pub(super) struct Agent {
    pub(super) streams: Streams,
    pub(super) legs: Mutex<HashMap<StreamId, mpsc::UnboundedSender<Leg>>>,
    target: std::net::SocketAddr,
    pub(super) connection: Mutex<Option<Connection>>,
    pub(super) tasks: TaskTracker,
    pub(super) over: CancellationToken,
}

impl Agent {
    pub(super) fn new(target: std::net::SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            streams: Streams::new(BufferBudget::new(buffer_budget::SESSION)),
            legs: Mutex::default(),
            target,
            connection: Mutex::new(None),
            tasks: TaskTracker::new(),
            over: CancellationToken::new(),
        })
    }

    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let over = self.over.clone();
        self.tasks.spawn(async move {
            over.run_until_cancelled(future).await;
        });
    }

    pub(super) async fn serve(self: Arc<Self>, connection: Connection) {
        let (mut send, mut receive) = connection.accept_bi().await.unwrap();
        let mut generation = [0; 8];
        receive.read_exact(&mut generation).await.unwrap();
        let generation = u64::from_be_bytes(generation);
        if let Some(old) = self.connection.lock().unwrap().replace(connection.clone()) {
            old.close(1u8.into(), b"");
        }
        let table = self.streams.fence(generation).expect("a higher generation");
        let told = async {
            control::send_table(&mut send, &table).await?;
            control::run_sender(&self.streams, &mut control::NoFrames, &mut send).await
        };
        let heard = async {
            while let Ok(control) = control::receive_frame(&mut receive).await {
                assert!(self.streams.on_control(&control));
            }
        };
        let accepted = async {
            while let Ok((send, receive)) = connection.accept_bi().await {
                let agent = self.clone();
                self.spawn(async move { agent.opened(generation, send, receive).await });
            }
        };
        tokio::select! {
            _ = told => {}
            () = heard => {}
            () = accepted => {}
        }
    }

    async fn opened(
        self: Arc<Self>,
        generation: u64,
        send: quinn::SendStream,
        mut receive: quinn::RecvStream,
    ) {
        let send = Sender::new(send);
        let Ok(open) = codec::read::<Open>(&mut receive, limits::HEADER_FRAME).await else {
            return;
        };
        let leg = Leg {
            generation,
            send,
            receive: Receiver::new(receive),
            at: open.from,
        };
        let stream = match self
            .streams
            .opened(generation, open.stream, open.header.is_some())
        {
            Opened::Known(stream) => stream,
            Opened::New(stream) => {
                self.work(stream.clone());
                stream
            }
            Opened::Over => return,
            Opened::TooMany => panic!("too many streams"),
        };
        if stream.opened(generation, open.received)
            && let Some(legs) = self.legs.lock().unwrap().get(&open.stream)
        {
            let _ = legs.send(leg);
        }
    }

    fn work(self: &Arc<Self>, stream: Arc<Stream>) {
        let (sender, legs) = mpsc::unbounded_channel();
        self.legs.lock().unwrap().insert(stream.id(), sender);
        let agent = self.clone();
        self.spawn(async move {
            let dialled = tokio::select! {
                dialled = TcpStream::connect(agent.target) => Some(dialled),
                () = stream.settles() => None,
            };
            match dialled {
                Some(Ok(tcp)) => {
                    let (socket, mut legs) = (Socket::from(tcp), Arriving(legs));
                    agent.streams.proxy(&stream, &socket, &mut legs).await;
                }
                Some(Err(_)) => stream.reset(ResetCode::Refused),
                None => {}
            }
            agent.legs.lock().unwrap().remove(&stream.id());
        });
    }
}

struct Arriving(mpsc::UnboundedReceiver<Leg>);

impl LegSource for Arriving {
    async fn next(&mut self) -> Leg {
        match self.0.recv().await {
            Some(leg) => leg,
            None => std::future::pending().await,
        }
    }
}
