//! An agent that is scripted frame by frame, and the client's session with it.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use jq_client::resumable_session::{AttachError, Attached, Detached, Session};
use jq_common::{
    codec,
    identity::{AllowedClients, Identity},
    protocol::{
        capabilities::Capabilities,
        limits,
        session::{Attach, AttachReply, Control, Entry, MOST_ENTRIES, Open},
        stream::ResetCode,
        target::Target,
    },
    quic,
};
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// Time limit for everything that must succeed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Deadline of an attach.
pub(crate) const ATTACH: Duration = Duration::from_secs(2);

/// Both ends of a connection that is not attached yet, and a session that can be attached to it.
pub(crate) struct Pair {
    pub(crate) session: Arc<Session>,
    address: SocketAddr,
    agent: Endpoint,
    agent_identity: Identity,
    client: Endpoint,
    client_identity: Identity,
}

fn udp() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

impl Pair {
    pub(crate) fn new() -> Self {
        let (agent_identity, client_identity) =
            (Identity::generate().unwrap(), Identity::generate().unwrap());
        let allowed = AllowedClients::default();
        allowed.allow(client_identity.fingerprint());
        let socket = udp();
        let address = socket.local_addr().unwrap();
        Self {
            session: Session::new(Duration::from_secs(60), true).unwrap(),
            address,
            agent: quic::agent_endpoint(socket, &agent_identity, allowed).unwrap(),
            agent_identity,
            client: quic::client_endpoint(udp()).unwrap(),
            client_identity,
        }
    }

    /// Both ends of a new connection.
    pub(crate) async fn connect(&self) -> (Connection, Connection) {
        let agent = self.agent_identity.fingerprint();
        let connecting = quic::connect(&self.client, self.address, &self.client_identity, agent).unwrap();
        let accepting = async { self.agent.accept().await.unwrap().await.unwrap() };
        let both = async { tokio::join!(async { connecting.await.unwrap() }, accepting) };
        timeout(PATIENCE, both).await.expect("a connection")
    }

    /// Attaches the session to a new connection whose agent sends `table`.
    pub(crate) async fn carry(
        &self,
        epoch: u8,
        table: Vec<Entry>,
    ) -> Result<(ControlTask, Host), AttachError> {
        self.carry_as(Capabilities::OURS, epoch, table).await
    }

    /// As [`carry`](Self::carry), with an agent that has these capabilities.
    pub(crate) async fn carry_as(
        &self,
        capabilities: Capabilities,
        epoch: u8,
        table: Vec<Entry>,
    ) -> Result<(ControlTask, Host), AttachError> {
        let (client, agent) = self.connect().await;
        let host = async {
            let mut host = Host::begin(agent).await;
            host.attached(capabilities, epoch, table).await;
            host
        };
        let (attached, host) = tokio::join!(self.session.attach(client, ATTACH), host);
        Ok((ControlTask::begin(&self.session, attached?), host))
    }
}

/// The client's control stream, which runs in a task.
pub(crate) struct ControlTask(JoinSet<Detached>);

impl ControlTask {
    fn begin(session: &Arc<Session>, attached: Attached) -> Self {
        let connection = attached.connection.clone();
        let (_, mut control) = session.install(attached).expect("the attachment is not newer");
        let session = session.clone();
        let mut talking = JoinSet::new();
        talking.spawn(async move { session.talk(&connection, &mut control).await });
        Self(talking)
    }

    /// How the control stream ended.
    pub(crate) async fn ended(&mut self) -> Option<Detached> {
        let ended = timeout(PATIENCE, self.0.join_next()).await.ok()?;
        Some(ended.unwrap().unwrap())
    }
}

/// The agent's end of a connection.
pub(crate) struct Host {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) receive: RecvStream,
}

impl Host {
    /// Receives the ATTACH.
    pub(crate) async fn begin(connection: Connection) -> Self {
        let (send, mut receive) = connection.accept_bi().await.unwrap();
        let _: Attach = codec::read(&mut receive, limits::CONTROL_FRAME).await.unwrap();
        Self {
            connection,
            send,
            receive,
        }
    }

    pub(crate) async fn say(&mut self, control: &Control) -> Option<()> {
        codec::write(&mut self.send, control, limits::CONTROL_FRAME)
            .await
            .ok()
    }

    /// Accepts the attach.
    async fn attached(&mut self, capabilities: Capabilities, epoch: u8, table: Vec<Entry>) {
        let reply = AttachReply::Attached {
            boot: [1; 16],
            epoch: [epoch; 16],
            capabilities,
        };
        self.connection
            .set_max_concurrent_bi_streams(VarInt::from_u32(limits::STREAMS));
        let _ = codec::write(&mut self.send, &reply, limits::CONTROL_FRAME).await;
        for entries in table.chunks(MOST_ENTRIES) {
            let entries = entries.to_vec();
            self.say(&Control::Table { entries, last: false }).await;
        }
        let (entries, last) = (Vec::new(), true);
        self.say(&Control::Table { entries, last }).await;
    }

    /// The next stream that the client opens.
    pub(crate) async fn opened(&self) -> Option<(Open, SendStream, RecvStream)> {
        let (send, mut receive) = self.connection.accept_bi().await.ok()?;
        let open = codec::read(&mut receive, limits::HEADER_FRAME).await.ok()?;
        Some((open, send, receive))
    }

    /// Echoes the client's next stream up to its end.
    pub(crate) async fn echo(&self) {
        let (_, mut send, mut receive) = self.opened().await.expect("a stream");
        while let Ok(Some(chunk)) = receive.read_chunk(usize::MAX, true).await {
            send.write_chunk(chunk.bytes).await.unwrap();
        }
        send.finish().unwrap();
    }
}

/// A local program that is connected through a stream of the session.
pub(crate) struct Program {
    pub(crate) tcp: TcpStream,
    carried: JoinSet<Result<(), ResetCode>>,
}

impl Program {
    pub(crate) async fn connect(session: &Arc<Session>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (tcp, accepted) = tokio::join!(
            TcpStream::connect(listener.local_addr().unwrap()),
            listener.accept()
        );
        let (session, accepted) = (session.clone(), accepted.unwrap().0);
        let mut carried = JoinSet::new();
        carried.spawn(async move {
            let target = Target::host("h", 1);
            session.proxy(accepted, target).await
        });
        Self {
            tcp: tcp.unwrap(),
            carried,
        }
    }

    /// How the program's stream ended; none if it has not ended in time.
    pub(crate) async fn ended(&mut self) -> Option<Result<(), ResetCode>> {
        let ended = timeout(PATIENCE, self.carried.join_next()).await.ok()?;
        Some(ended.unwrap().expect("no panic"))
    }
}

/// The memory of this process, in bytes.
pub(crate) fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
