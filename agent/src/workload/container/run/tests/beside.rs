//! Jupyter beside the own command of the user's container.

use super::*;
use crate::session_store::{BesideRecord, fresh_token};

/// A request for the user's own container, which runs.
async fn attached() -> Bench {
    let mut bench = Bench::new().await;
    bench.spec.image = None;
    bench.spec.existing_container = Some("box".into());
    bench.engine.add("theirs", "box", Phase::Running);
    // Its network is another one than that of this process.
    bench.engine.state().exec_ends = Some(("net:[1]".into(), 0));
    bench
}

fn beside(started_at: &str) -> BesideRecord {
    BesideRecord {
        container: "theirs".into(),
        started_at: started_at.into(),
        port: 8890,
        folder: String::new(),
        python: String::new(),
        token: fresh_token().unwrap(),
    }
}

#[tokio::test]
async fn jupyter_is_started_beside_the_command_of_the_users_own_container() {
    let bench = attached().await.without_jupyter();
    bench.engine.state().exec_ends = Some(("jupyter: not found".into(), 127));
    let failure = bench.failure().await;
    assert_eq!(failure.kind, FailureKind::CommandMissing);
    // One looks at the network.
    assert_eq!(bench.calls(), ["exec theirs /bin/sh -c"; 2]);
    assert_eq!(bench.engine.state().containers["theirs"].phase, Phase::Running);
    bench.engine.state().containers.clear();
    assert_eq!(bench.failure().await.kind, FailureKind::ContainerUnavailable);
}

#[tokio::test]
async fn a_jupyter_that_this_session_has_started_beside_it_is_found_with_its_token() {
    let mut bench = attached().await;
    let record = beside("1");
    let port = stand_in(&record.token, &mut bench.tasks).await;
    *bench.access.0.lock().unwrap() = port;
    bench.store.set_beside("gpu", &record).await.unwrap();
    let jupyter = bench.ready().await.0.jupyter.unwrap();
    assert!(jupyter.was_running && jupyter.port == 8890 && jupyter.token == record.token);
    assert!(bench.calls().is_empty());
}

#[tokio::test]
async fn no_listener_that_was_only_found_is_sent_a_token() {
    let mut bench = attached().await;
    let (saw, mut seen) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let note = move |request: &str| {
        saw.send(request.to_owned()).unwrap();
        true
    };
    *bench.access.0.lock().unwrap() = answer(listener, note, &mut bench.tasks);
    // Also after a restart of the container: whoever listens there now is somebody else.
    for record in [None, Some(beside("0"))] {
        if let Some(record) = record {
            bench.store.set_beside("gpu", &record).await.unwrap();
        }
        let failure = bench.failure().await;
        assert!(failure.what.contains("no port is free"), "{failure:?}");
        while let Ok(request) = seen.try_recv() {
            assert_eq!(request, "", "only its being there is noticed");
        }
    }
}
