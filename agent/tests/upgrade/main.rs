//! Upgrades of a running agent, with real processes: the guarantees for its clients.

#![expect(clippy::unwrap_used, reason = "helpers of tests, in a test binary")]

mod client;
mod host;
mod older;
#[path = "../../../common/tests/shared/older_peer.rs"]
mod older_peer;

use std::time::Duration;

use client::Client;
use host::Host;
use jq_common::protocol::{
    target::Target,
    workload::{EngineChoice, GpuAsk, JupyterKind, PullPolicy, WorkloadSpec},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, split},
    net::{TcpListener, UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

/// Time limit for anything here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Interval between checks of a condition.
const POLL: Duration = Duration::from_millis(10);

/// Longest time that a stream may stall.
const PAUSE: Duration = Duration::from_secs(2);

/// A server that returns what it receives.
struct Echo {
    port: u16,
    _serving: JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                connections.spawn(async move {
                    let (mut from, mut to) = tcp.split();
                    // Errors are detected at the other end.
                    if copy(&mut from, &mut to).await.is_ok() {
                        let _ = to.shutdown().await;
                    }
                });
            }
        });
        Self {
            port,
            _serving: serving,
        }
    }
}

/// Bytes whose values depend on their position.
fn pattern(from: usize, length: usize) -> Vec<u8> {
    (from..from + length)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

const PIECE: usize = 64 * 1024;

async fn write_pattern(mut to: impl AsyncWrite + Unpin, length: usize) {
    for at in (0..length).step_by(PIECE) {
        to.write_all(&pattern(at, PIECE.min(length - at))).await.unwrap();
    }
    to.shutdown().await.unwrap();
}

/// Reads to the end. Returns the longest time without a byte.
async fn read_pattern(
    mut from: impl AsyncRead + Unpin,
    length: usize,
    progress: &watch::Sender<usize>,
) -> Duration {
    let mut got = 0;
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    let mut buffer = vec![0; PIECE];
    loop {
        let count = from.read(&mut buffer).await.unwrap();
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if count == 0 {
            assert_eq!(got, length, "the transfer is incomplete");
            return longest;
        }
        assert!(buffer[..count] == pattern(got, count), "wrong bytes after {got}");
        got += count;
        progress.send_replace(got);
    }
}

async fn assert_echoes(stream: &mut UnixStream, words: &[u8]) {
    stream.write_all(words).await.unwrap();
    let mut heard = vec![0; words.len()];
    let heard_back = stream.read_exact(&mut heard);
    timeout(PATIENCE, heard_back).await.expect("an echo").unwrap();
    assert_eq!(heard, words);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_continue_across_an_upgrade_during_a_transfer() {
    const LENGTH: usize = 50_000_000;
    let (host, echo) = (Host::new(), Echo::start().await);
    let (old, new) = (host.build("old"), host.build("new"));
    let mut client = Client::new();
    let before = host.bootstrap(&old, client.fingerprint()).await;
    client.stay_attached_to(&before).await;
    let agent = host.agent();

    let mut idle = client.connect(echo.port);
    assert_echoes(&mut idle, b"before").await;
    let (from, to) = split(client.connect(echo.port));
    let progress = watch::Sender::new(0);
    let mut come = progress.subscribe();
    let descriptors = watch::Sender::new(0);
    let upgrade = async {
        come.wait_for(|&come| come > LENGTH / 4).await.unwrap();
        descriptors.send_replace(agent.descriptors());
        let newcomer = Client::new();
        let after = host.bootstrap(&new, newcomer.fingerprint()).await;
        assert!(
            *come.borrow() < LENGTH,
            "the transfer has ended before the upgrade"
        );
        after
    };
    let (after, (), longest) = timeout(PATIENCE, async {
        tokio::join!(
            upgrade,
            write_pattern(to, LENGTH),
            read_pattern(from, LENGTH, &progress)
        )
    })
    .await
    .expect("the transfer does not end");

    assert!(longest < PAUSE, "the stream stalled for {longest:?}");
    assert_eq!((after.agent, after.port), (before.agent, before.port));
    assert_eq!(host.agent(), agent, "the process has changed");
    assert!(agent.runs(&new));
    assert_eq!(client.generation(), 2, "there must be exactly one reconnect");
    assert_echoes(&mut idle, b"after").await;
    client.check();
    // The agent has one more lock and control socket, and the transfer's own socket is closed.
    agent.has_at_most(*descriptors.borrow() + 2 - 1).await;

    let again = host.bootstrap(&old, client.fingerprint()).await;
    assert_eq!(
        again.agent, before.agent,
        "a bootstrap of the old build does not find the new one"
    );
    assert_eq!(host.agent(), agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_upgrades_keep_a_stream_and_leak_nothing() {
    let (host, echo) = (Host::new(), Echo::start().await);
    let builds: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| host.build(name)).collect();
    let mut client = Client::new();
    let first = host.bootstrap(&builds[0], client.fingerprint()).await;
    client.stay_attached_to(&first).await;
    let agent = host.agent();
    let mut stream = client.connect(echo.port);
    assert_echoes(&mut stream, b"hello").await;
    let descriptors = agent.descriptors();
    for (at, build) in builds.iter().enumerate().skip(1) {
        let generation = client.generation();
        host.bootstrap(build, client.fingerprint()).await;
        client.reattached_after(generation).await;
        assert_echoes(&mut stream, format!("again {at}").as_bytes()).await;
        assert!(agent.runs(build));
        agent.has_at_most(descriptors + 2 * at).await;
    }
    for build in &builds {
        let reply = host.bootstrap(build, client.fingerprint()).await;
        assert_eq!(reply.agent, first.agent);
    }
    assert!(client.longest_outage() < PAUSE, "{:?}", client.longest_outage());
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_streams_are_handed_over() {
    const STREAMS: usize = 3000;
    jq_common::descriptors::raise_limit();
    let (host, echo) = (Host::new(), Echo::start().await);
    let (old, new) = (host.build("old"), host.build("new"));
    let mut client = Client::new();
    let agent = host.bootstrap(&old, client.fingerprint()).await;
    client.stay_attached_to(&agent).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(client.connect(echo.port));
    }
    for stream in &mut streams {
        assert_echoes(stream, b"1").await;
    }
    host.bootstrap(&new, client.fingerprint()).await;
    for stream in &mut streams {
        assert_echoes(stream, b"2").await;
    }
    client.check();
    assert!(client.longest_outage() < PAUSE, "{:?}", client.longest_outage());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_reachable_after_an_upgrade_and_its_subscribers_get_an_update() {
    let (host, echo) = (Host::new(), Echo::start().await);
    let (old, new) = (host.build("old"), host.build("new"));
    let mut client = Client::new();
    let agent = host.bootstrap(&old, client.fingerprint()).await;
    client.stay_attached_to(&agent).await;
    let port = echo.port;
    client.start(process()).await;
    client.subscribe();
    client.waits_until_running(1).await;
    let mut before = client.forward(Target::workload(port));
    assert_echoes(&mut before, b"before").await;
    host.bootstrap(&new, client.fingerprint()).await;
    let mut after = client.forward(Target::workload(port));
    assert_echoes(&mut after, b"after").await;
    assert_echoes(&mut before, b"still there").await;
    client.waits_until_running(2).await;
    client.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_workload_is_starting_the_new_build_runs_beside_the_old_one() {
    let host = Host::new();
    let (old, new) = (host.build("old"), host.build("new"));
    // Accepts requests but never responds.
    let docker = UnixListener::bind(host.docker()).unwrap();
    let mut client = Client::new();
    let before = host.bootstrap(&old, client.fingerprint()).await;
    client.stay_attached_to(&before).await;
    let spec = WorkloadSpec {
        engine: EngineChoice::Docker,
        image: Some("image".to_owned()),
        ..process()
    };
    let _events = client.request(spec);
    let _asked = timeout(PATIENCE, docker.accept())
        .await
        .expect("the workload does not start");
    let beside = host.bootstrap(&new, client.fingerprint()).await;
    assert_ne!(beside.agent, before.agent);
    assert_eq!(host.agents().len(), 2);
    assert_eq!(client.generation(), 1, "the connection was interrupted");
}

/// A request for the host's own network: no container and no Jupyter.
fn process() -> WorkloadSpec {
    WorkloadSpec {
        session: "test".to_owned(),
        engine: EngineChoice::Process,
        existing_container: None,
        image: None,
        pull: PullPolicy::Never,
        gpus: GpuAsk::None,
        volumes: Vec::new(),
        env: Vec::new(),
        workdir: None,
        shm_size: None,
        user: None,
        jupyter: JupyterKind::None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_cannot_be_executed_is_refused_without_an_interruption() {
    let (host, echo) = (Host::new(), Echo::start().await);
    let old = host.build("old");
    let mut client = Client::new();
    let agent = host.bootstrap(&old, client.fingerprint()).await;
    client.stay_attached_to(&agent).await;
    let mut stream = client.connect(echo.port);
    assert_echoes(&mut stream, b"before").await;
    let broken = host.broken_build();
    // The program makes itself non-executable when the agent checks its version.
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let refused = host.upgrade(&old, &broken).await.unwrap_err();
    assert!(refused.why.contains("not a program"), "{}", refused.why);
    assert_echoes(&mut stream, b"after").await;
    assert_eq!(client.generation(), 1);
    client.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_successor_cannot_start_all_streams_continue_with_the_old_agent() {
    const LENGTH: usize = 10_000_000;
    let (host, echo) = (Host::new(), Echo::start().await);
    let old = host.build("old");
    let mut client = Client::new();
    let reply = host.bootstrap(&old, client.fingerprint()).await;
    client.stay_attached_to(&reply).await;
    let agent = host.agent();
    let mut idle = client.connect(echo.port);
    assert_echoes(&mut idle, b"before").await;
    let (from, to) = split(client.connect(echo.port));
    let progress = watch::Sender::new(0);
    let mut come = progress.subscribe();
    let broken = host.broken_build();
    let upgrade = async {
        come.wait_for(|&come| come > LENGTH / 4).await.unwrap();
        host.upgrade(&old, &broken).await
    };
    let (refused, (), longest) = timeout(PATIENCE, async {
        tokio::join!(
            upgrade,
            write_pattern(to, LENGTH),
            read_pattern(from, LENGTH, &progress)
        )
    })
    .await
    .expect("the transfer does not end");
    assert!(refused.is_err());
    assert!(longest < PAUSE, "the stream stalled for {longest:?}");
    assert_echoes(&mut idle, b"after").await;
    client.check();
    assert!(agent.runs(&old));
    let again = host.upgrade(&old, &host.build("good")).await.unwrap_err();
    assert!(again.why.contains("failed before"), "{}", again.why);
    assert_eq!(
        host.bootstrap(&old, client.fingerprint()).await.agent,
        reply.agent
    );
}
