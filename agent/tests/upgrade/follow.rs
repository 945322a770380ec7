//! The agent follows the login that differs from its own.

use jq_common::protocol::workload::{EngineChoice, FailureKind, WorkloadSpec};
use tokio::{io::split, net::UnixListener, sync::watch, time::timeout};

use crate::{
    Echo, PATIENCE, PAUSE, assert_echoes,
    client::Client,
    host::{Host, Login},
    process, read_pattern, write_pattern,
};

const NEWER: Login = Login {
    umask: "027",
    variables: &[("HTTPS_PROXY", "http://proxy:3128")],
    conditions: &[],
};

#[tokio::test(flavor = "multi_thread")]
async fn streams_continue_when_a_newer_login_is_followed_during_a_transfer() {
    const LENGTH: usize = 50_000_000;
    let (host, echo) = (Host::new(), Echo::start().await);
    let build = host.build("one");
    let mut client = Client::new();
    let before = host.bootstrap(&build, client.fingerprint()).await;
    client.stay_attached_to(&before).await;
    let agent = host.agent();

    let mut idle = client.connect(echo.port);
    assert_echoes(&mut idle, b"before").await;
    let (from, to) = split(client.connect(echo.port));
    let progress = watch::Sender::new(0);
    let mut come = progress.subscribe();
    let follow = async {
        come.wait_for(|&come| come > LENGTH / 4).await.unwrap();
        let newcomer = Client::new();
        let after = host.bootstrap_in(&build, newcomer.fingerprint(), &NEWER).await;
        assert!(*come.borrow() < LENGTH, "in the middle");
        after.unwrap()
    };
    let (after, (), longest) = timeout(PATIENCE, async {
        tokio::join!(
            follow,
            write_pattern(to, LENGTH),
            read_pattern(from, LENGTH, &progress)
        )
    })
    .await
    .expect("the transfer ends");

    assert!(longest < PAUSE, "it stood still for {longest:?}");
    assert_eq!(
        (after.agent, after.port, after.notes),
        (before.agent, before.port, Vec::new())
    );
    let successor = host.agent();
    assert_ne!(successor, agent, "another process");
    assert!(successor.has_variable("HTTPS_PROXY=http://proxy:3128"));
    assert_eq!(client.generation(), 2, "one pause");
    assert_echoes(&mut idle, b"after").await;
    client.check();

    let again = host.bootstrap_in(&build, client.fingerprint(), &NEWER).await;
    assert_eq!(again.unwrap().agent, before.agent);
    assert_eq!(host.agent(), successor, "the same login replaces nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_streams_are_handed_over_again_and_again_and_nothing_leaks() {
    const STREAMS: usize = 1000;
    jq_common::descriptors::raise_limit();
    let (host, echo) = (Host::new(), Echo::start().await);
    let build = host.build("one");
    let mut client = Client::new();
    let agent = host.bootstrap(&build, client.fingerprint()).await;
    client.stay_attached_to(&agent).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(client.connect(echo.port));
    }
    for stream in &mut streams {
        assert_echoes(stream, b"1").await;
    }
    let descriptors = host.agent().descriptors();
    for (round, login) in [NEWER, Login::default(), NEWER].iter().enumerate() {
        let generation = client.generation();
        host.bootstrap_in(&build, client.fingerprint(), login)
            .await
            .unwrap();
        client.reattached_after(generation).await;
        for stream in &mut streams {
            assert_echoes(stream, &[u8::try_from(round).unwrap()]).await;
        }
        host.agent().has_at_most(descriptors + 2).await;
    }
    client.check();
    assert!(client.longest_outage() < PAUSE, "{:?}", client.longest_outage());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_build_from_a_newer_login_is_taken_up_with_both() {
    let (host, echo) = (Host::new(), Echo::start().await);
    let (old, new) = (host.build("old"), host.build("new"));
    let mut client = Client::new();
    let agent = host.bootstrap(&old, client.fingerprint()).await;
    client.stay_attached_to(&agent).await;
    let mut stream = client.connect(echo.port);
    assert_echoes(&mut stream, b"before").await;
    let after = host
        .bootstrap_in(&new, client.fingerprint(), &NEWER)
        .await
        .unwrap();
    assert_eq!(after.agent, agent.agent);
    assert!(host.agent().runs(&new));
    assert!(host.agent().has_variable("HTTPS_PROXY=http://proxy:3128"));
    assert_echoes(&mut stream, b"after").await;
    client.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_leaves_the_agent_with_the_login_that_it_has() {
    let host = Host::new();
    let build = host.build("one");
    let client = Client::new();
    host.bootstrap(&build, client.fingerprint()).await;
    let agent = host.agent();
    let back = Login {
        conditions: &["--keep-login"],
        ..NEWER
    };
    host.bootstrap_in(&build, client.fingerprint(), &back)
        .await
        .unwrap();
    assert_eq!(host.agent(), agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_workload_is_being_started_the_earlier_login_stays_and_the_user_is_told() {
    let host = Host::new();
    let build = host.build("one");
    // Accepts requests and answers none.
    let docker = UnixListener::bind(host.docker()).unwrap();
    let mut client = Client::new();
    let before = host.bootstrap(&build, client.fingerprint()).await;
    client.stay_attached_to(&before).await;
    let agent = host.agent();
    let _events = client.request(WorkloadSpec {
        engine: EngineChoice::Docker,
        image: Some("image".to_owned()),
        ..process()
    });
    let _asked = timeout(PATIENCE, docker.accept())
        .await
        .expect("the start begins");
    let told = host
        .bootstrap_in(&build, client.fingerprint(), &NEWER)
        .await
        .unwrap();
    assert_eq!(told.agent, before.agent);
    assert_eq!(host.agent(), agent);
    let [note] = &told.notes[..] else {
        panic!("{:?}", told.notes)
    };
    assert!(
        note.contains("umask") && note.contains("HTTPS_PROXY") && note.contains("being started"),
        "{note}"
    );
    assert!(!note.contains("3128"), "a value may be a secret: {note}");
    assert_eq!(client.generation(), 1, "nothing paused");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_started_on_another_machine_than_the_sessions() {
    let host = Host::new();
    let build = host.build("one");
    let client = Client::new();
    let elsewhere = Login {
        conditions: &["--machine", "0123456789abcdef:another-machine"],
        ..Login::default()
    };
    let refused = host.bootstrap_in(&build, client.fingerprint(), &elsewhere).await;
    let failure = refused.unwrap_err();
    assert_eq!(failure.kind, FailureKind::OtherMachine);
    assert!(failure.why.contains("another-machine"), "{failure:?}");
    assert_eq!(host.agents().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_what_the_client_has_does_nothing() {
    let host = Host::new();
    let build = host.build("one");
    let mut bootstrap = tokio::process::Command::new(&build);
    bootstrap.args([
        "bootstrap",
        "serve",
        "--nonce",
        "0123456789abcdef0123456789abcdef",
    ]);
    let output = bootstrap.args(["--sha256", "00"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(126), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_eq!(host.agents().len(), 0);
}
