//! Both ends around [`Streams`]: a client and an agent, with as little as a test needs.

mod agent;

use std::{
    io,
    net::UdpSocket,
    sync::{Arc, Weak},
    time::Duration,
};

use quinn::{Connection, Endpoint};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    codec,
    identity::{AllowedClients, Identity},
    protocol::{limits, session::Open, stream::Header},
    quic,
    session::{
        buffer_budget::{self, BufferBudget},
        context::StreamContext,
        control,
        core::StreamCore,
        leg::{Leg, LegSource, Receiver, Sender},
        socket::Socket,
        stream::Stream,
        streams::Streams,
    },
};
use agent::Agent;

/// # Panics
/// When it takes too long.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    soon(what, async {
        while !holds() {
            ticks.tick().await;
        }
    })
    .await;
}

/// Both ends.
pub(super) struct Rig {
    pub(super) client: Arc<Streams>,
    agent: Arc<Agent>,
    target: TcpListener,
    endpoints: [Endpoint; 2],
    identities: [Identity; 2],
    generation: u64,
    /// Generation and connection of the current attachment, for the client.
    carrier: watch::Sender<Option<(u64, Connection)>>,
    /// Ends the client's work on the control stream of the current attachment.
    talk: CancellationToken,
    /// Replaced, and kept open.
    idle: Vec<Connection>,
    tasks: TaskTracker,
    over: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.over.cancel();
        self.agent.over.cancel();
    }
}

impl Rig {
    pub(super) async fn attached() -> Self {
        let udp = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let identities = [Identity::generate().unwrap(), Identity::generate().unwrap()];
        let allowed = AllowedClients::default();
        allowed.allow(identities[0].fingerprint());
        let endpoints = [
            quic::client_endpoint(udp()).unwrap(),
            quic::agent_endpoint(udp(), &identities[1], allowed).unwrap(),
        ];
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let agent = Agent::new(target.local_addr().unwrap());
        let mut rig = Self {
            client: Arc::new(Streams::new(BufferBudget::new(buffer_budget::SESSION))),
            agent,
            target,
            endpoints,
            identities,
            generation: 0,
            carrier: watch::Sender::new(None),
            talk: CancellationToken::new(),
            idle: Vec::new(),
            tasks: TaskTracker::new(),
            over: CancellationToken::new(),
        };
        rig.attach().await;
        rig
    }

    /// Attaches on a new connection, then closes the old one.
    pub(super) async fn attach(&mut self) {
        self.connect(true).await;
    }

    /// As [`Rig::attach`], but to an agent that does not know the session.
    pub(super) async fn attach_anew(&mut self) {
        self.client.lose();
        self.connect(true).await;
    }

    /// Attaches on a new connection and keeps the old one open.
    pub(super) async fn attach_without_closing(&mut self) {
        self.connect(false).await;
    }

    async fn connect(&mut self, close: bool) {
        self.generation += 1;
        let generation = self.generation;
        let [dialling, serving] = &self.endpoints;
        let address = serving.local_addr().unwrap();
        let connecting = quic::connect(
            dialling,
            address,
            &self.identities[0],
            self.identities[1].fingerprint(),
        )
        .unwrap();
        let (here, there) = soon("a connection", async {
            tokio::join!(async { connecting.await.unwrap() }, async {
                let connection = serving.accept().await.unwrap().await.unwrap();
                connection.set_max_concurrent_bi_streams(limits::STREAMS.into());
                connection.set_receive_window(quic::window(limits::STREAMS as usize));
                connection
            })
        })
        .await;
        let agent = self.agent.clone();
        self.agent.spawn(async move { agent.serve(there).await });

        let (mut send, mut receive) = here.open_bi().await.unwrap();
        send.write_all(&generation.to_be_bytes()).await.unwrap();
        let table = soon("the table", control::read_table(&mut receive))
            .await
            .unwrap();
        self.talk.cancel();
        self.talk = self.over.child_token();
        let talk = self.talk.clone();
        assert!(self.client.resume(generation, table));
        let old = self.carrier.send_replace(Some((generation, here)));
        match old {
            Some((_, old)) if close => old.close(0u8.into(), b""),
            Some((_, old)) => self.idle.push(old),
            None => {}
        }
        let client = self.client.clone();
        self.spawn(async move {
            let heard = async {
                while let Ok(control) = control::receive_frame(&mut receive).await {
                    assert!(client.on_control(&control));
                }
                std::future::pending::<()>().await;
            };
            let told = async {
                let _ = control::run_sender(&client, &mut control::NoFrames, &mut send).await;
            };
            talk.run_until_cancelled(async { tokio::join!(heard, told) })
                .await;
        });
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let over = self.over.clone();
        self.tasks.spawn(async move {
            over.run_until_cancelled(future).await;
        });
    }

    pub(super) fn client_closes(&self) {
        if let Some((_, connection)) = &*self.carrier.borrow() {
            connection.close(0u8.into(), b"");
        }
    }

    pub(super) fn agent_closes(&self) {
        if let Some(connection) = &*self.agent.connection.lock().unwrap() {
            connection.close(0u8.into(), b"");
        }
    }

    /// Returns when both ends know that they are disconnected.
    pub(super) async fn detached(&self) {
        let here = self.carrier.borrow().as_ref().unwrap().1.clone();
        let there = self.agent.connection.lock().unwrap().clone().unwrap();
        soon("the end of the connection", async {
            tokio::join!(here.closed(), there.closed())
        })
        .await;
    }

    /// Replaces the agent by one that does not know the session.
    pub(super) fn agent_is_replaced(&mut self) {
        self.agent_closes();
        self.agent.over.cancel();
        self.agent = Agent::new(self.target.local_addr().unwrap());
    }

    /// Whether bulk data may be compressed, on a path of this many bytes a second.
    pub(super) fn compresses(&self, may: bool, rate: u64) {
        for streams in [&self.client, &self.agent.streams] {
            streams.allow_compression(may);
            streams.update_path(rate, Duration::from_secs(1));
        }
    }

    /// Bytes that the agent's connection sent, of all its packets.
    pub(super) fn agent_sent(&self) -> u64 {
        let connection = self.agent.connection.lock().unwrap();
        connection.as_ref().unwrap().stats().udp_tx.bytes
    }

    /// Connects a program to the client. Returns its socket.
    pub(super) async fn open(&self) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (here, inner) = tokio::join!(
            TcpStream::connect(listener.local_addr().unwrap()),
            listener.accept()
        );
        let (stream, socket) = (self.client.open(), Socket::from(inner.unwrap().0));
        let mut legs = Opening {
            stream: stream.clone(),
            carrier: self.carrier.subscribe(),
            last: 0,
        };
        let client = self.client.clone();
        self.spawn(async move {
            client.proxy(&stream, &socket, &mut legs).await;
        });
        here.unwrap()
    }

    /// The next connection that the agent made to the target.
    pub(super) async fn arrived(&self) -> TcpStream {
        soon("a connection to the target", self.target.accept())
            .await
            .unwrap()
            .0
    }

    /// Opens a stream. Returns the sockets of the programs at both ends.
    pub(super) async fn stream(&self) -> (TcpStream, TcpStream) {
        let here = self.open().await;
        (here, self.arrived().await)
    }

    /// Asserts that both ends forget all streams and free their memory.
    pub(super) async fn nothing_is_left(self) {
        until("the end of all streams at the client", || self.client.is_empty()).await;
        until("the end of all streams at the agent", || {
            self.agent.streams.is_empty()
        })
        .await;
        assert_eq!(
            self.client.context.budget.room(0),
            buffer_budget::EACH + buffer_budget::SESSION,
            "what the budget of the client has free"
        );
        assert_eq!(
            self.agent.streams.context.budget.room(0),
            buffer_budget::EACH + buffer_budget::SESSION,
            "what the budget of the agent has free"
        );
        // A worker forgets its legs only after its stream.
        until("the end of all workers at the agent", || {
            self.agent.legs.lock().unwrap().is_empty()
        })
        .await;
        let ends: [Weak<StreamContext>; 2] =
            [&self.client, &self.agent.streams].map(|streams| Arc::downgrade(&streams.context));
        let (tasks, agent_tasks) = (self.tasks.clone(), self.agent.tasks.clone());
        self.client.end();
        self.agent.streams.end();
        self.over.cancel();
        self.agent.over.cancel();
        tasks.close();
        agent_tasks.close();
        soon("the end of all tasks", async {
            tokio::join!(tasks.wait(), agent_tasks.wait())
        })
        .await;
        drop(self);
        for end in ends {
            assert_eq!(end.strong_count(), 0, "an end of the session is never freed");
        }
    }
}

/// The client's legs: one opened on each attachment.
struct Opening {
    stream: Arc<Stream>,
    carrier: watch::Receiver<Option<(u64, Connection)>>,
    /// Of the last leg.
    last: u64,
}

impl LegSource for Opening {
    async fn next(&mut self) -> Leg {
        loop {
            let last = self.last;
            let newer = |carrier: &Option<(u64, Connection)>| {
                carrier.as_ref().is_some_and(|(generation, _)| *generation > last)
            };
            let carrier = self.carrier.wait_for(newer).await.map(|carrier| carrier.clone());
            let Ok(Some((generation, connection))) = carrier else {
                return std::future::pending().await;
            };
            match self.leg(generation, &connection).await {
                Ok(Some(leg)) => {
                    self.last = generation;
                    return leg;
                }
                // The attachment is gone, or was replaced.
                Ok(None) | Err(_) => self.last = generation,
            }
        }
    }
}

impl Opening {
    async fn leg(&self, generation: u64, connection: &Connection) -> io::Result<Option<Leg>> {
        let (send, receive) = connection.open_bi().await?;
        let mut send = Sender::new(send);
        let Some(open) = opening(&mut self.stream.core(), generation) else {
            return Ok(None);
        };
        let receive = Receiver::new(receive);
        let frame = codec::encode(&open, limits::HEADER_FRAME).unwrap();
        send.stream().write_all(&frame).await?;
        Ok(Some(Leg {
            generation,
            send,
            receive,
            at: open.received,
        }))
    }
}

fn opening(core: &mut StreamCore, generation: u64) -> Option<Open> {
    core.offer(generation).then(|| Open {
        stream: core.id(),
        from: core.send_buffer().sent(),
        received: core.recv_state().received(),
        header: (!core.is_confirmed()).then(|| Header::of_bytes(bytes::Bytes::new()).unwrap()),
    })
}
