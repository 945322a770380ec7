//! Records and tokens on a real disk.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::golden::{Golden, pretty};

#[tokio::test]
async fn a_token_is_fresh_for_each_start_kept_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let store = SessionStore::new(dir.path());
    assert_eq!(store.token("a", TokenOf::Container).await, None);
    let token = store.new_token("a", TokenOf::Container).await.unwrap();
    assert_eq!(store.token("a", TokenOf::Container).await, Some(token.clone()));
    assert_eq!(store.token("a", TokenOf::Process).await, None);
    let others = [
        store.new_token("a", TokenOf::Process).await.unwrap(),
        store.new_token("b", TokenOf::Container).await.unwrap(),
    ];
    assert!(is_token(&token) && !others.contains(&token));
    assert_ne!(store.new_token("a", TokenOf::Container).await.unwrap(), token);
    let file = store.token_file("a", TokenOf::Container);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let folder = fs::metadata(file.parent().unwrap()).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn only_one_agent_at_a_time_starts_a_session() {
    let dir = tempfile::tempdir().unwrap();
    let store = SessionStore::new(dir.path());
    let first = store.try_lock("a").await.unwrap();
    assert!(first.is_some());
    assert!(store.try_lock("b").await.unwrap().is_some());
    assert!(store.try_lock("a").await.unwrap().is_none());
    drop(first);
    assert!(store.try_lock("a").await.unwrap().is_some());
}

#[tokio::test]
async fn an_empty_token_is_none_and_the_token_of_an_earlier_build_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = SessionStore::new(dir.path());
    store.new_token("a", TokenOf::Process).await.unwrap();
    fs::write(store.token_file("a", TokenOf::Process), "").unwrap();
    assert_eq!(store.token("a", TokenOf::Process).await, None);
    let before = fresh_token().unwrap();
    fs::write(store.file("a", "token"), &before).unwrap();
    assert_eq!(store.token("a", TokenOf::Process).await, Some(before));
}

#[tokio::test]
async fn a_jupyter_beside_a_container_is_that_containers_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = SessionStore::new(dir.path());
    let record = |container: &str| BesideRecord {
        container: container.into(),
        started_at: "yesterday".into(),
        port: 8889,
        folder: String::new(),
        python: String::new(),
        token: fresh_token().unwrap(),
    };
    let (one, other) = (record("0123456789abcdef0"), record("0123456789abcdef1"));
    store.set_beside("a", &one).await.unwrap();
    assert!(store.beside("a", &one.container).await == Some(one.clone()));
    // The same first digits.
    assert!(
        store.beside("a", &other.container).await.is_none()
            && store.beside("b", &one.container).await.is_none()
    );
    assert_eq!(store.all_beside("a").await, std::slice::from_ref(&one.container));
    store.forget_beside("a", &one.container).await;
    assert!(store.beside("a", &one.container).await.is_none());
}

#[tokio::test]
async fn records_are_read_back_and_damaged_ones_are_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let store = SessionStore::new(dir.path());
    assert_eq!(store.container("a").await, None);
    let record = ContainerRecord {
        nonce: "n".into(),
        id: Some("i".into()),
        engine: None,
    };
    store.set_container("a", &record).await.unwrap();
    assert_eq!(store.container("a").await, Some(record));
    fs::write(store.file("a", "container"), "junk").unwrap();
    assert_eq!(store.container("a").await, None);
}

#[test]
fn records_are_what_their_golden_files_say() {
    let container = ContainerRecord {
        nonce: "0123456789abcdef".to_owned(),
        id: Some("fedcba9876543210".to_owned()),
        engine: Some(EngineRecord {
            kind: "docker".to_owned(),
            socket: "/var/run/docker.sock".into(),
        }),
    };
    let process = ProcessRecord {
        pid: 4242,
        start_time: 77_777,
        port: 8888,
        socket: None,
        verb: "lab".to_owned(),
        workdir: "/home/ada".to_owned(),
    };
    let text = |record: Vec<u8>| pretty(&record);
    let mut golden = Golden::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/session_store"));
    let written = text(serde_json::to_vec(&container).unwrap());
    golden.check("container.json", &container, &written, |text| {
        serde_json::from_str(text).ok()
    });
    golden.is_read_as("newer_container.json", &container, |text| {
        serde_json::from_str(text).ok()
    });
    let older = ContainerRecord {
        id: None,
        engine: None,
        ..container
    };
    golden.is_read_as("older_container.json", &older, |text| {
        serde_json::from_str(text).ok()
    });
    let written = text(serde_json::to_vec(&process).unwrap());
    golden.check("process.json", &process, &written, |text| {
        serde_json::from_str(text).ok()
    });
    golden.is_read_as("newer_process.json", &process, |text| {
        serde_json::from_str(text).ok()
    });
    let older = ProcessRecord {
        verb: String::new(),
        workdir: String::new(),
        ..process
    };
    golden.is_read_as("older_process.json", &older, |text| {
        serde_json::from_str(text).ok()
    });
    let beside = BesideRecord {
        container: "fedcba9876543210".to_owned(),
        started_at: "2026-11-30T01:02:03.4Z".to_owned(),
        port: 8888,
        folder: String::new(),
        python: String::new(),
        token: "0123456789abcdef".repeat(3),
    };
    let written = text(serde_json::to_vec(&beside).unwrap());
    golden.check("beside.json", &beside, &written, |text| {
        serde_json::from_str(text).ok()
    });
    golden.finish();
}

#[test]
fn a_record_without_what_tells_its_container_or_process_is_none() {
    assert!(serde_json::from_str::<ContainerRecord>("{}").is_err());
    assert!(serde_json::from_str::<ProcessRecord>(r#"{"port":8888}"#).is_err());
}
