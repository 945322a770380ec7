//! A helper in this machine's own network namespace.

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    task::JoinSet,
};

use super::*;

/// Starts a helper in this machine's own network namespace; returns the agent's side and the helper's task.
async fn helper() -> (HelperConnection, JoinSet<io::Result<()>>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inside.sock");
    let mut role = JoinSet::new();
    role.spawn({
        let path = path.clone();
        async move { run(&path).await }
    });
    (connect(&path, Some(std::process::id())).await.unwrap(), role, dir)
}

async fn connect(path: &Path, pid: Option<u32>) -> io::Result<HelperConnection> {
    HelperConnection::connect(path, pid, Duration::from_secs(10)).await
}

#[tokio::test]
async fn a_socket_of_another_process_in_the_place_of_the_helper_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inside.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let refused = connect(&path, Some(1)).await.err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn the_helper_is_reached_through_the_root_of_its_process_and_its_socket_is_gone_then() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inside.sock");
    let mut role = JoinSet::new();
    role.spawn({
        let path = path.clone();
        async move { run(&path).await }
    });
    let pid = std::process::id();
    let seen = in_container(pid, path.to_str().unwrap());
    let inside = connect(&seen, Some(pid)).await.unwrap();
    // Once it answers, it has removed the file.
    assert!(inside.dial(1).await.is_err());
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_connected_by_the_helper_is_usable_by_the_agent() {
    let (inside, _role, _dir) = helper().await;
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    let mut dialled = inside.dial(port).await.unwrap();
    let (mut accepted, _) = service.accept().await.unwrap();
    accepted.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    dialled.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
}

#[tokio::test]
async fn two_hundred_dials_at_once_each_get_their_own_socket() {
    let (inside, _role, _dir) = helper().await;
    let inside = Arc::new(inside);
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    let mut dials = JoinSet::new();
    for _ in 0..200 {
        let inside = inside.clone();
        dials.spawn(async move { inside.dial(port).await.unwrap().local_addr().unwrap() });
    }
    let mut accepted = std::collections::HashSet::new();
    for _ in 0..200 {
        accepted.insert(service.accept().await.unwrap().1);
    }
    let dialled: std::collections::HashSet<_> = dials.join_all().await.into_iter().collect();
    assert_eq!(dialled, accepted);
}

#[tokio::test]
async fn a_port_without_a_listener_is_refused() {
    let (inside, _role, _dir) = helper().await;
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    assert_eq!(
        inside.dial(port).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn the_helper_ends_with_the_agent_and_the_agent_notices_a_dead_helper() {
    let (inside, mut role, _dir) = helper().await;
    drop(inside);
    role.join_next().await.unwrap().unwrap().unwrap();

    let (inside, mut role, _dir) = helper().await;
    role.shutdown().await;
    assert_eq!(
        inside.dial(1).await.unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
}
