//! Containers that are found again, and one that is created a second time.

use super::*;

#[tokio::test]
async fn the_record_of_a_container_names_its_engine_also_one_of_an_older_build() {
    let bench = Bench::new().await;
    bench.ready().await;
    let record = bench.store.container("gpu").await.unwrap();
    let engine = record.engine.clone().unwrap();
    assert_eq!(
        (engine.kind.as_str(), engine.socket.as_path()),
        ("docker", Path::new("/var/run/docker.sock"))
    );
    let older = ContainerRecord {
        engine: None,
        ..record.clone()
    };
    bench.store.set_container("gpu", &older).await.unwrap();
    bench.ready().await;
    assert_eq!(bench.store.container("gpu").await, Some(record));
}

#[tokio::test]
async fn a_container_is_found_again_without_starting_or_creating_anything() {
    let bench = Bench::new().await;
    bench.ready().await;
    bench.calls();
    let found = || async {
        let engine: Arc<dyn ContainerEngine> = bench.engine.clone();
        let found = find(engine, &bench.host, &bench.store, &bench.access, &bench.spec).await;
        found.map(drop).map_err(|failure| failure.why)
    };
    assert_eq!(found().await, Ok(()));
    bench.engine.end("id0", Exit::default());
    assert_eq!(found().await, Err("it is not running".into()));
    bench.engine.state().containers.clear();
    assert_eq!(found().await, Err("it does not exist any more".into()));
    bench.engine.add("theirs", NAME, Phase::Running);
    assert!(found().await.is_err(), "another one of the same name");
    assert!(bench.calls().is_empty());
}
