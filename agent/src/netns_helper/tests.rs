//! A helper in this machine's own network namespace.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

use super::*;

/// Starts a helper in this machine's own network namespace; returns the agent's side and the helper's task.
async fn helper() -> (HelperConnection, JoinSet<io::Result<()>>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let listener = HelperListener::bind(dir.path()).unwrap();
    let path = dir.path().join(SOCKET);
    let mut role = JoinSet::new();
    role.spawn(async move { run(&path).await });
    (listener.accept(Duration::from_secs(10)).await.unwrap(), role, dir)
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
