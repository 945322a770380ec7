use std::{path::Path, time::Duration};

use jq_common::{
    bootstrap::HandOverRequest,
    identity::Identity,
    login::Login,
    protocol::{version::ALPN, workload::Failure},
    quic,
};
use quinn::{Connection, ConnectionError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::*;
use crate::{
    bootstrap::contract::SNAPSHOT_FORMATS,
    rundir::RunDir,
    serve::{Served, Server},
    workload::HostContext,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Interval between checks of a condition.
const LOOK: Duration = Duration::from_millis(5);

fn host(folder: &Path) -> HostContext {
    HostContext {
        home: folder.to_owned(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        user: "user".to_owned(),
        path: "/usr/bin:/bin".into(),
        shell: None,
        docker_host: None,
        docker_context: None,
        registry_auth_file: None,
        docker_config: None,
        xdg_runtime_dir: None,
        state_dir: folder.join("state"),
        run_dir: folder.to_owned(),
        login: Login::default(),
        agent_binary: "/proc/self/exe".into(),
    }
}

/// Serves until it is stopped, or has handed over to another process: here that is another server.
async fn serve(mut server: Server, stop: CancellationToken) {
    loop {
        match stop.run_until_cancelled(server.join()).await {
            Some(Served::Upgrade(upgrade)) => match server.hand_over(upgrade).await.unwrap() {
                Some(restored) => server = restored,
                None => return,
            },
            Some(Served::Idle) | None => return server.shutdown().await,
        }
    }
}

/// An agent in this process.
struct Agent {
    folder: RunDir,
    stop: CancellationToken,
    running: JoinSet<()>,
    base: tempfile::TempDir,
}

impl Agent {
    fn start() -> Self {
        let base = tempfile::tempdir().unwrap();
        let folder = RunDir::at(base.path().join("run")).unwrap();
        let server = Server::bind(&folder, host(base.path())).unwrap();
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(serve(server, stop.clone()));
        Self {
            folder,
            stop,
            running,
            base,
        }
    }

    /// Takes over as the process of another login does.
    async fn take_over(&mut self, login: &Login) {
        let host = HostContext {
            login: login.clone(),
            ..host(self.base.path())
        };
        let successor = Server::take_over(&self.folder, host).await.unwrap();
        self.running.spawn(serve(successor, self.stop.clone()));
    }

    /// What the agent finds different in this login.
    async fn compare(&self, login: &Login) -> Vec<String> {
        let mut stream = self.folder.connect().await.unwrap();
        let request = BootstrapRequest::CompareLogin(login.clone());
        codec::write(&mut stream, &request, limits::BOOTSTRAP_FRAME)
            .await
            .unwrap();
        let compared = codec::read_within::<LoginCompared>(&mut stream, limits::BOOTSTRAP_FRAME, PATIENCE);
        compared.await.unwrap().differs
    }

    /// Does what the end of an SSH channel does: asks for a tunnel that admits `client`.
    async fn ask(&self, client: &Identity) -> (UnixStream, Result<AdmitReply, Failure>) {
        let mut stream = self.folder.connect().await.unwrap();
        let request = BootstrapRequest::AdmitAndTunnel(AdmitRequest {
            client: client.fingerprint(),
            linger_s: 60,
        });
        codec::write(&mut stream, &request, limits::BOOTSTRAP_FRAME)
            .await
            .unwrap();
        let reply = codec::read_within::<BootstrapReply>(&mut stream, limits::BOOTSTRAP_FRAME, PATIENCE);
        let reply = reply.await.unwrap().map(|started| match started {
            Started::Serve(reply) => reply,
            Started::Relay(_) => panic!("this is no relay"),
        });
        (stream, reply)
    }
}

/// The client's end of a tunnel.
struct Client {
    endpoint: Endpoint,
    connection: Connection,
    driver: JoinSet<()>,
}

async fn connect(
    stream: UnixStream,
    identity: &Identity,
    agent: &AdmitReply,
) -> Result<Client, ConnectionError> {
    let (reader, writer) = stream.into_split();
    let (carrier, driving) = pipe::over(reader, writer);
    let endpoint = quic::client_endpoint_on(carrier, CarrierKind::Pipe).unwrap();
    let mut driver = JoinSet::new();
    let owner = endpoint.clone();
    driver.spawn(async move {
        let _ = driving.run().await;
        owner.close(VarInt::from_u32(9), b"the pipe ended");
    });
    let connecting =
        quic::connect_over(&endpoint, pipe::PEER, identity, agent.agent, CarrierKind::Pipe).unwrap();
    let connection = timeout(PATIENCE, connecting).await.expect("an answer")?;
    // A TLS client considers the handshake complete before the agent has verified its certificate; the agent confirms
    // it later (RFC 9001, section 4.1.2).
    let confirmed = async {
        while connection.stats().frame_rx.handshake_done == 0 {
            if let Some(error) = connection.close_reason() {
                return Err(error);
            }
            sleep(LOOK).await;
        }
        Ok(())
    };
    timeout(PATIENCE, confirmed).await.expect("an answer")?;
    Ok(Client {
        endpoint,
        connection,
        driver,
    })
}

#[tokio::test]
async fn a_client_is_admitted_without_udp() {
    let agent = Agent::start();
    let identity = Identity::generate().unwrap();
    let (stream, reply) = agent.ask(&identity).await;
    let client = connect(stream, &identity, &reply.unwrap()).await.unwrap();
    assert!(client.connection.close_reason().is_none());
}

#[tokio::test]
async fn a_tunnel_admits_nobody_whose_certificate_did_not_come_over_ssh() {
    let agent = Agent::start();
    let (stream, reply) = agent.ask(&Identity::generate().unwrap()).await;
    let stranger = Identity::generate().unwrap();
    let refused = connect(stream, &stranger, &reply.unwrap()).await;
    assert!(
        matches!(refused, Err(ConnectionError::ConnectionClosed(_))),
        "{:?}",
        refused.err()
    );
}

#[tokio::test]
async fn a_client_is_told_that_the_agent_shuts_down() {
    let mut agent = Agent::start();
    let identity = Identity::generate().unwrap();
    let (stream, reply) = agent.ask(&identity).await;
    let mut client = connect(stream, &identity, &reply.unwrap()).await.unwrap();
    agent.stop.cancel();
    let ended = timeout(PATIENCE, client.connection.closed()).await;
    assert!(
        matches!(ended, Ok(ConnectionError::ApplicationClosed(_))),
        "{ended:?}"
    );
    timeout(PATIENCE, agent.running.join_next())
        .await
        .expect("it ends");
    timeout(PATIENCE, client.driver.join_next())
        .await
        .expect("and its tunnel with it");
    client.endpoint.wait_idle().await;
}

#[tokio::test]
async fn tunnels_are_limited_and_one_that_ends_frees_its_place() {
    let agent = Agent::start();
    let identity = Identity::generate().unwrap();
    let mut tunnels = Vec::new();
    for _ in 0..MOST_TUNNELS {
        let (stream, reply) = agent.ask(&identity).await;
        reply.unwrap();
        tunnels.push(stream);
    }
    let (_, refused) = agent.ask(&identity).await;
    assert!(refused.unwrap_err().why.contains("too many"));
    tunnels.pop();
    let room = async {
        while agent.ask(&identity).await.1.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, room).await.expect("there is room again");
}

#[tokio::test]
async fn a_request_of_a_newer_build_is_answered_in_words() {
    let agent = Agent::start();
    let mut stream = agent.folder.connect().await.unwrap();
    let request = br#"{"admit_and_teleport":{"client":"00"}}"#;
    stream.write_u32(request.len() as u32).await.unwrap();
    stream.write_all(request).await.unwrap();
    let reply = codec::read_within::<BootstrapReply>(&mut stream, limits::BOOTSTRAP_FRAME, PATIENCE);
    let failure = reply.await.unwrap().unwrap_err();
    assert!(failure.why.contains("older"), "{failure:?}");
    drop(agent);
}

#[tokio::test]
async fn a_newer_login_is_followed_and_clients_find_the_same_agent() {
    let mut agent = Agent::start();
    let identity = Identity::generate().unwrap();
    let before = agent.ask(&identity).await.1.unwrap();
    let newer = Login {
        groups: vec![999],
        umask: Some(0o027),
        ..Login::default()
    };
    assert_eq!(agent.compare(&Login::default()).await, [""; 0]);
    assert_eq!(agent.compare(&newer).await, ["groups", "umask"]);
    agent.take_over(&newer).await;
    timeout(PATIENCE, agent.running.join_next())
        .await
        .expect("the earlier one ends");
    assert_eq!(agent.compare(&newer).await, [""; 0]);
    let (stream, after) = agent.ask(&identity).await;
    assert_eq!(after.as_ref().unwrap(), &before);
    connect(stream, &identity, &after.unwrap()).await.unwrap();
    assert!(agent.folder.lock().unwrap().is_none(), "the lock is held");
}

/// Begins as a successor does; the agent has agreed.
async fn begin_hand_over(agent: &Agent) -> UnixStream {
    let mut stream = agent.folder.connect().await.unwrap();
    let request = BootstrapRequest::HandOver(HandOverRequest {
        handshake: String::from_utf8_lossy(ALPN).into_owned(),
        formats: SNAPSHOT_FORMATS,
    });
    codec::write(&mut stream, &request, limits::BOOTSTRAP_FRAME)
        .await
        .unwrap();
    let agreed = codec::read_within::<BootstrapReply>(&mut stream, limits::BOOTSTRAP_FRAME, PATIENCE);
    agreed.await.unwrap().unwrap();
    stream
}

#[tokio::test]
async fn a_successor_that_fails_before_it_is_ready_leaves_the_agent_as_it_was() {
    let agent = Agent::start();
    let identity = Identity::generate().unwrap();
    let before = agent.ask(&identity).await.1.unwrap();
    drop(begin_hand_over(&agent).await);
    assert_eq!(agent.ask(&identity).await.1.unwrap(), before);

    let mut successor = begin_hand_over(&agent).await;
    let mut byte = [0];
    successor.read_exact(&mut byte).await.unwrap();
    // Not what one says that has read the snapshot.
    successor.write_all(&[0]).await.unwrap();
    successor.read_exact(&mut byte).await.unwrap();
    assert_eq!(byte, [4], "it is told not to serve");
    assert_eq!(agent.ask(&identity).await.1.unwrap(), before);
}

#[tokio::test]
async fn a_successor_of_another_handshake_is_refused_and_nothing_stops() {
    let agent = Agent::start();
    let mut stream = agent.folder.connect().await.unwrap();
    let request = BootstrapRequest::HandOver(HandOverRequest {
        handshake: "jq/0".to_owned(),
        formats: SNAPSHOT_FORMATS,
    });
    codec::write(&mut stream, &request, limits::BOOTSTRAP_FRAME)
        .await
        .unwrap();
    let refused = codec::read_within::<BootstrapReply>(&mut stream, limits::BOOTSTRAP_FRAME, PATIENCE);
    assert!(refused.await.unwrap().unwrap_err().why.contains("clients"));
    agent.ask(&Identity::generate().unwrap()).await.1.unwrap();
}
