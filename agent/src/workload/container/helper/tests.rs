//! Network helpers on an engine in memory, with the real role in this machine's own network namespace.

use std::{io, sync::Arc};

use jq_common::protocol::workload::Failure;
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, net::TcpListener, task::JoinSet};

use super::*;
use crate::{
    engine::{ContainerEngine, Exit, ImageFacts, Phase},
    workload::{
        RunningWorkload,
        container::fake_engine::Fake,
        fixtures::{engine, host},
    },
};

struct Bench {
    engine: Arc<Fake>,
    helpers: Helpers,
    _dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut host = host();
        host.agent_binary = dir.path().join("agent");
        host.state_dir = dir.path().join("state");
        std::fs::write(&host.agent_binary, "a binary").unwrap();
        let engine = Fake::new(engine());
        engine.add("box", "box", Phase::Running);
        Self {
            engine,
            helpers: Helpers::new(Arc::new(host)),
            _dir: dir,
        }
    }

    async fn open(&self) -> Result<Arc<dyn RunningWorkload>, Failure> {
        let engine: Arc<dyn ContainerEngine> = self.engine.clone();
        let state = engine.container("box").await.unwrap().unwrap();
        self.helpers.open(&engine, &state, "gpu").await
    }

    async fn without_helpers(&self) {
        let gone = async {
            while !self.helper_ids().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), gone)
            .await
            .expect("the helper is removed");
    }

    fn helper_ids(&self) -> Vec<String> {
        let state = self.engine.state();
        let ids = state.containers.iter().filter(|(_, it)| it.spec.confined);
        ids.map(|(id, _)| id.clone()).collect()
    }
}

/// Greets whoever connects; returns its port.
async fn service(tasks: &mut JoinSet<()>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await;
        }
    });
    port
}

async fn greeted(workload: &dyn RunningWorkload, port: u16) -> bool {
    let Ok(mut stream) = workload.dial(port).await else {
        return false;
    };
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    heard == "hello"
}

#[tokio::test]
async fn each_container_has_one_confined_helper_that_is_removed_at_the_end() {
    let bench = Bench::new();
    let mut tasks = JoinSet::new();
    let port = service(&mut tasks).await;
    let workload = bench.open().await.unwrap();
    assert!(greeted(&*workload, port).await);
    assert!(greeted(&*bench.open().await.unwrap(), port).await);
    let ids = bench.helper_ids();
    assert_eq!(ids.len(), 1);
    {
        let state = bench.engine.state();
        let spec = &state.containers[&ids[0]].spec;
        assert_eq!(spec.network_of.as_deref(), Some("box"));
        assert_eq!(spec.user.as_deref(), Some("1234:1235"));
        assert!(
            spec.mounts.is_empty(),
            "it needs no folder that the engine may not see"
        );
        let imports = state.calls.iter().filter(|call| call.starts_with("import"));
        assert_eq!(imports.count(), 1);
    }
    bench.helpers.remove_all().await;
    assert!(bench.helper_ids().is_empty());
    assert_eq!(bench.engine.state().containers.len(), 1, "the target stays");
    assert!(!greeted(&*workload, port).await, "none is started again");
}

#[tokio::test]
async fn a_helper_that_died_is_started_again() {
    let bench = Bench::new();
    let mut tasks = JoinSet::new();
    let port = service(&mut tasks).await;
    let workload = bench.open().await.unwrap();
    bench.engine.end(&bench.helper_ids()[0], Exit::default());
    assert!(greeted(&*workload, port).await);
}

#[tokio::test]
async fn a_restarted_container_gets_a_new_helper_once_a_port_is_refused() {
    let bench = Bench::new();
    let workload = bench.open().await.unwrap();
    let first = bench.helper_ids();
    // A port without a listener.
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let refused = workload.dial(port).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(bench.helper_ids(), first, "the container is the same");

    bench.engine.state().containers.get_mut("box").unwrap().starts += 1;
    bench.open().await.unwrap();
    assert_ne!(bench.helper_ids(), first);
    assert_eq!(bench.helper_ids().len(), 1);
}

#[tokio::test]
async fn an_image_that_this_user_did_not_import_is_neither_used_nor_replaced_whatever_its_labels() {
    let bench = Bench::new();
    let host = &bench.helpers.host;
    let hash = image::binary_hash(&host.agent_binary).await.unwrap();
    for labels in [
        crate::workload::container::ownership::helper_image_labels(host),
        std::collections::BTreeMap::new(),
    ] {
        let forged = ImageFacts {
            id: "forged".into(),
            labels,
            ..ImageFacts::default()
        };
        for name in [format!("jq-inside:{hash}"), format!("jq-inside:{hash}-1234")] {
            bench.engine.state().images.insert(name, forged.clone());
        }
        bench.open().await.unwrap();
        let state = bench.engine.state();
        let of_name = |name: &str| state.images[name].id.clone();
        assert_eq!(of_name(&format!("jq-inside:{hash}")), "forged");
        assert_eq!(of_name(&format!("jq-inside:{hash}-1234")), "forged");
        let helper = state.containers.values().find(|it| it.spec.confined).unwrap();
        let image = &helper.spec.image;
        assert!(image.starts_with(&format!("sha256:{hash}-1234-")), "{image}");
    }
}

#[tokio::test]
async fn the_image_is_imported_once_and_found_by_its_id() {
    let bench = Bench::new();
    bench.open().await.unwrap();
    bench.helpers.remove_all().await;
    let again = Helpers::new(bench.helpers.host.clone());
    let engine: Arc<dyn ContainerEngine> = bench.engine.clone();
    let state = engine.container("box").await.unwrap().unwrap();
    let _used = again.open(&engine, &state, "gpu").await.unwrap();
    let calls = bench.engine.state().calls.clone();
    let imports = calls.iter().filter(|call| call.starts_with("import"));
    assert_eq!(imports.count(), 1, "{calls:?}");
}

#[tokio::test]
async fn a_helper_goes_with_the_container_that_it_is_for() {
    let bench = Bench::new();
    let _workload = bench.open().await.unwrap();
    assert_eq!(bench.helper_ids().len(), 1);
    bench.engine.end("box", Exit::default());
    bench.without_helpers().await;
}

#[tokio::test(start_paused = true)]
async fn a_helper_that_nobody_uses_any_more_is_removed_after_a_while() {
    let bench = Bench::new();
    let (first, second) = (bench.open().await.unwrap(), bench.open().await.unwrap());
    drop(first);
    tokio::time::sleep(2 * lifecycle::UNUSED).await;
    assert_eq!(bench.helper_ids().len(), 1, "one client still has it");
    drop(second);
    tokio::time::sleep(lifecycle::UNUSED / 2).await;
    let back = bench.open().await.unwrap();
    tokio::time::sleep(2 * lifecycle::UNUSED).await;
    assert_eq!(bench.helper_ids().len(), 1, "the client came back in time");
    drop(back);
    tokio::time::sleep(2 * lifecycle::UNUSED).await;
    assert!(bench.helper_ids().is_empty());
    assert_eq!(bench.engine.state().containers.len(), 1, "the target stays");
}

#[tokio::test]
async fn a_container_that_does_not_run_has_no_network() {
    let bench = Bench::new();
    bench.engine.end("box", Exit::default());
    let failure = bench.open().await.err().unwrap();
    assert!(failure.why.contains("is not running"));
    assert!(bench.helper_ids().is_empty());
}
