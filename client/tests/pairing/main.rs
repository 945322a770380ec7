//! All combinations of client and agent of this version and of the previous one, as real programs on this machine.
#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

#[path = "../../../common/tests/shared/older_peer.rs"]
mod older_peer;

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Time limit for anything here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Interval between checks of a condition.
const POLL: Duration = Duration::from_millis(50);

/// A `jq-client connect local` with its own home.
struct Session {
    client: PathBuf,
    home: tempfile::TempDir,
    process: Child,
    events: Lines<BufReader<ChildStdout>>,
}

impl Session {
    /// Connects through its own agent, with a forward to `port` of this machine.
    fn start(client: &Path, agent: &Path, port: u16) -> Self {
        let home = tempfile::tempdir().unwrap();
        let agents = home.path().join("agents");
        fs::create_dir(&agents).unwrap();
        let name = format!("jq-agent-{}", std::env::consts::ARCH);
        fs::copy(agent, agents.join(name)).unwrap();
        let forward = format!("{}:127.0.0.1:{port}", free_port());
        let mut process = command(client, home.path())
            .args(["connect", "local", "--json", "--no-browser", "--linger", "2s"])
            .args([
                "--engine",
                "process",
                "--jupyter",
                "none",
                "-L",
                &forward,
                "--agent-dir",
            ])
            .arg(agents)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(home.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let events = BufReader::new(process.stdout.take().unwrap()).lines();
        Self {
            client: client.to_owned(),
            home,
            process,
            events,
        }
    }

    /// The next event of this kind.
    async fn event(&mut self, kind: &str) -> Value {
        loop {
            let line = self.events.next_line().await.unwrap();
            let event: Value = serde_json::from_str(&line.expect("the client has ended")).unwrap();
            assert_ne!(event["event"], "failure", "{event}");
            if event["event"] == kind {
                return event;
            }
        }
    }

    /// The output of `jq-client status` for this session.
    async fn status(&self) -> Value {
        let mut status = command(&self.client, self.home.path());
        let output = status.args(["status", "--json"]).output().await.unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Ends the client like Ctrl-C.
    async fn end(mut self) {
        let pid = Pid::from_raw(self.process.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let ended = timeout(PATIENCE, self.process.wait())
            .await
            .expect("the client does not end");
        assert!(ended.unwrap().success());
        assert_no_panics(self.home.path());
    }
}

/// No log below `folder`, of the client or an agent, tells of a panic.
fn assert_no_panics(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            assert_no_panics(&path);
        } else if entry.file_name() == "log" {
            let log = fs::read_to_string(&path).unwrap();
            assert!(!log.contains("panicked at "), "{}: {log}", path.display());
        }
    }
}

fn command(client: &Path, home: &Path) -> Command {
    let mut command = Command::new(client);
    command
        .env_clear()
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .env("PATH", "/usr/bin:/bin")
        .env("DOCKER_HOST", "unix:///nonexistent");
    command
}

/// A port without a listener.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts an echo service on a port of this machine.
async fn echo(serving: &mut JoinSet<()>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut tcp, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut read, mut write) = tcp.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    port
}

/// Waits until `status` shows the expected state of the workload.
async fn workload_is(session: &Session, expected: &Value) {
    let told = async {
        while session.status().await["workload"]["state"] != *expected {
            sleep(POLL).await;
        }
    };
    let told = timeout(PATIENCE, told).await;
    assert!(told.is_ok(), "{}", session.status().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pairing_of_client_and_agent_connects_carries_data_and_uses_common_capabilities() {
    let mut serving = JoinSet::new();
    let port = echo(&mut serving).await;
    let clients = [
        env!("CARGO_BIN_EXE_jq-client").into(),
        older_peer::older("jq-client"),
    ];
    let agents = [older_peer::newer("jq-agent"), older_peer::older("jq-agent")];
    for (client_is_older, client) in clients.iter().enumerate() {
        for (agent_is_older, agent) in agents.iter().enumerate() {
            let mut session = Session::start(client, agent, port);
            let ready = timeout(PATIENCE, session.event("ready")).await.expect("in time");
            let local = ready["forwards"][0]["port"].as_u64().unwrap();
            let mut tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, local as u16))
                .await
                .unwrap();
            let sent: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
            let (mut read, mut write) = tcp.split();
            let mut got = Vec::new();
            let exchange = async {
                tokio::try_join!(read.read_to_end(&mut got), async {
                    write.write_all(&sent).await?;
                    write.shutdown().await
                })
            };
            timeout(PATIENCE, exchange).await.expect("in time").unwrap();
            assert!(got == sent, "{} bytes came back of {}", got.len(), sent.len());
            let known = match (client_is_older, agent_is_older) {
                (0, 0) => "running".into(),
                _ => Value::Null,
            };
            workload_is(&session, &known).await;
            session.end().await;
        }
    }
}
