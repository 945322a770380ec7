//! Admitted clients that use sessions in unusual ways.

use std::time::{Duration, Instant};

use jq_common::{
    codec,
    identity::Identity,
    protocol::{limits, session::Close},
};
use quinn::ConnectionError;
use tokio::time::timeout;

use crate::{
    agent::{Agent, PATIENCE},
    client::{Echo, Good, attach, block, connect, endpoint, open},
};

/// Time limit for the agent to end the session of a client's earlier run.
const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_generation_is_refused_and_changes_nothing() {
    let mut agent = Agent::start();
    let echo = Echo::start().await;
    let identity = Identity::generate().unwrap();
    let address = agent.admit(&identity).await;
    let endpoint = endpoint();
    let carrying = attach(connect(&endpoint, &address, &identity).await, [1; 16], 5).await;
    let carrying = carrying.unwrap().unwrap();
    for generation in [0, 3, 5] {
        let stale = attach(connect(&endpoint, &address, &identity).await, [1; 16], generation).await;
        assert!(stale.unwrap().is_none(), "{generation}");
        let (mut send, mut receive) = carrying.connection.open_bi().await.unwrap();
        codec::write(&mut send, &open(generation, echo.port), limits::HEADER_FRAME)
            .await
            .unwrap();
        let sent = block(b"still here");
        send.write_all(&sent).await.unwrap();
        let mut got = vec![0; sent.len()];
        timeout(PATIENCE, receive.read_exact(&mut got))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(got, sent);
    }
    agent.assert_healthy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_id_of_a_session_gives_another_client_no_way_to_it() {
    let mut agent = Agent::start();
    let (owner, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let address = agent.admit(&owner).await;
    agent.admit(&other).await;
    let endpoint = endpoint();
    let owned = attach(connect(&endpoint, &address, &owner).await, [1; 16], 1).await;
    let owned = owned.unwrap().unwrap();
    // Admitted as well, with the same id and a generation that is higher.
    let own = attach(connect(&endpoint, &address, &other).await, [1; 16], 9).await;
    let own = own.unwrap().expect("a session of its own");
    // That of its owner goes on, at the generation that it has.
    let again = attach(connect(&endpoint, &address, &owner).await, [1; 16], 2).await;
    assert!(again.unwrap().is_some());
    let closed = timeout(PATIENCE, owned.connection.closed())
        .await
        .expect("it was fenced");
    assert!(
        matches!(closed, ConnectionError::ApplicationClosed(_)),
        "{closed:?}"
    );
    assert!(own.connection.close_reason().is_none());
    agent.assert_healthy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_session_ends_no_other() {
    let mut agent = Agent::start();
    let identity = Identity::generate().unwrap();
    let address = agent.admit(&identity).await;
    let endpoint = endpoint();
    let first = attach(connect(&endpoint, &address, &identity).await, [1; 16], 1).await;
    let first = first.unwrap().unwrap();
    let refused = attach(connect(&endpoint, &address, &identity).await, [2; 16], 0).await;
    assert!(refused.unwrap().is_none());
    // The first session still exists: its next connection attaches to it and gets its state.
    let again = attach(connect(&endpoint, &address, &identity).await, [1; 16], 2).await;
    assert!(again.unwrap().is_some());
    let closed = timeout(PATIENCE, first.connection.closed())
        .await
        .expect("the connection was not fenced");
    assert!(
        matches!(&closed, ConnectionError::ApplicationClosed(close)
            if Close::from_wire(close.error_code.into_inner()) == Some(Close::Fenced)),
        "{closed:?}"
    );
    agent.assert_healthy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_client_does_not_wait_for_its_previous_session() {
    let mut agent = Agent::start();
    let echo = Echo::start().await;
    let identity = Identity::generate().unwrap();
    let address = agent.admit(&identity).await;
    let endpoint = endpoint();
    let before = attach(connect(&endpoint, &address, &identity).await, [1; 16], 1).await;
    let before = before.unwrap().unwrap();
    let (mut send, _receive) = before.connection.open_bi().await.unwrap();
    codec::write(&mut send, &open(0, echo.port), limits::HEADER_FRAME)
        .await
        .unwrap();
    let connection = connect(&endpoint, &address, &identity).await;
    let began = Instant::now();
    attach(connection, [2; 16], 1).await.unwrap().unwrap();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    let closed = timeout(PATIENCE, before.connection.closed())
        .await
        .expect("the client is not told");
    assert!(
        matches!(&closed, ConnectionError::ApplicationClosed(close)
            if Close::from_wire(close.error_code.into_inner()) == Some(Close::Superseded)),
        "{closed:?}"
    );
    agent.assert_healthy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_has_only_one_session_however_many_it_requests() {
    let mut agent = Agent::start();
    let mut good = Good::start(&agent).await;
    let identity = Identity::generate().unwrap();
    let address = agent.admit(&identity).await;
    let round = async |endpoint: &quinn::Endpoint, number: u64| {
        let mut id = [7; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let connection = connect(endpoint, &address, &identity).await;
        let attached = attach(connection.clone(), id, 1).await;
        connection.close(0u32.into(), b"");
        assert!(
            attached.is_ok_and(|attached| attached.is_some()),
            "session {number}"
        );
    };
    let endpoint = endpoint();
    for number in 0..200 {
        round(&endpoint, number).await;
    }
    let before = agent.memory();
    for number in 200..1700 {
        round(&endpoint, number).await;
    }
    good.exchange().await;
    let grown = agent.memory().saturating_sub(before);
    agent.assert_healthy();
    assert!(
        grown < 12_000_000,
        "1,500 sessions that are over left {} kB",
        grown / 1000
    );
}
