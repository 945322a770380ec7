//! What follows from what each engine says, and what a user is told.

use std::os::unix::net::UnixListener;

use tokio::sync::mpsc;

use super::*;
use crate::workload::{
    fixtures::{host, spec},
    select_engine::{Runner, select},
};

fn record_at(socket: &str) -> EngineRecord {
    EngineRecord {
        kind: "docker".into(),
        socket: socket.into(),
    }
}

fn silent() -> Look {
    Look::Silent(ConnectError::Stopped("/x".into(), "refused".into()))
}

#[test]
fn an_engine_that_may_have_the_container_is_never_passed_over() {
    let docker = record_at("/run/docker.sock");
    let stopped = |looks, record| match verdict(looks, record) {
        Verdict::Unknown(ConnectError::Stopped(socket, _)) => Some(socket),
        _ => None,
    };
    // The recorded engine restarts, while another one answers.
    for gone in [Look::Absent, silent()] {
        assert!(stopped(vec![gone, Look::Lacks], Some(&docker)).is_some());
    }
    assert_eq!(
        stopped(vec![Look::Absent], Some(&docker)),
        Some("/run/docker.sock".into()),
        "the one that is missing is named"
    );
    assert_eq!(verdict(vec![Look::Lacks, silent()], Some(&docker)), Verdict::Gone);
    // It moved to another socket.
    assert_eq!(
        verdict(vec![Look::Absent, Look::Has], Some(&docker)),
        Verdict::Found(1)
    );
    // A record of an older build names no engine.
    assert_eq!(verdict(vec![Look::Lacks, Look::Has], None), Verdict::Found(1));
    assert!(stopped(vec![Look::Lacks, silent()], None).is_some());
    assert_eq!(verdict(vec![Look::Lacks, Look::Absent], None), Verdict::Gone);
    assert_eq!(
        verdict(vec![Look::Absent, Look::Absent], None),
        Verdict::Unknown(ConnectError::Missing(None))
    );
}

/// Selects an engine for a request without an image, with a record that names the engine at `socket`.
async fn selected(engine: Option<EngineRecord>) -> Result<Runner, Failure> {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host();
    host.state_dir = dir.path().join("state");
    host.xdg_runtime_dir = Some(dir.path().to_owned());
    // No engine of the machine that runs the tests.
    host.docker_host = Some(format!("unix://{}", dir.path().join("none.sock").display()));
    let store = SessionStore::new(&host.state_dir);
    let record = ContainerRecord {
        nonce: "n".into(),
        id: Some("i".into()),
        engine,
    };
    store.set_container("gpu", &record).await.unwrap();
    let mut wanted = spec();
    (wanted.image, wanted.engine) = (None, EngineChoice::Auto);
    let (sender, _receiver) = mpsc::channel(64);
    select(&host, &store, &wanted, &EventSink::new(sender)).await
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_engine_is_down_is_not_replaced_by_a_process() {
    let dir = tempfile::tempdir().unwrap();
    let dead = dir.path().join("docker.sock");
    drop(UnixListener::bind(&dead).unwrap());
    for socket in [dead.as_path(), &dir.path().join("missing.sock")] {
        let failure = selected(Some(record_at(&socket.to_string_lossy())))
            .await
            .err()
            .unwrap();
        assert_eq!(failure.kind, FailureKind::EngineStopped);
        assert!(failure.what.contains(&*socket.to_string_lossy()), "{failure:?}");
        assert!(failure.why.contains("jq-ada-gpu may be there"), "{failure:?}");
        assert!(failure.hint.contains("systemctl start docker") && failure.hint.contains("--name"));
    }
    // As an older build wrote it.
    let failure = selected(None).await.err().unwrap();
    assert!(
        matches!(
            failure.kind,
            FailureKind::EngineStopped | FailureKind::EngineMissing
        ),
        "{failure:?}"
    );
}
