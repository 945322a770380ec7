use std::time::Duration;

use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};

use super::*;
use crate::reporter::Silent;

const SOON: Duration = Duration::from_secs(10);

/// The forwards of a session without a connection to an agent: connections wait.
struct Fixture {
    forwards: Forwards,
    session: Arc<Session>,
    _running: JoinSet<Infallible>,
}

/// Most forwards of the fixture.
const FEW: usize = 3;

fn fixture() -> Fixture {
    let session = Session::new(Duration::from_secs(60), false).unwrap();
    let (mut actor, forwards) = ForwardActor::new(session.clone(), "gpu".to_owned(), Arc::new(Silent));
    actor.most = FEW;
    let mut running = JoinSet::new();
    running.spawn(actor.run());
    Fixture {
        forwards,
        session,
        _running: running,
    }
}

fn workload(local: u16) -> Forward {
    Forward {
        local,
        target: Target::workload(8888),
    }
}

/// A listener that takes a port, and the port.
async fn taken() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Waits until the session has `streams` streams.
async fn streams(session: &Session, streams: usize) {
    let all = async {
        while session.len() != streams {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, all).await.unwrap();
}

fn is_bind(error: &ForwardError, wanted: u16) -> bool {
    matches!(error, ForwardError::Bind { port, .. } if *port == wanted)
}

#[tokio::test]
async fn a_port_that_was_added_is_listed_and_takes_connections() {
    let Fixture {
        forwards, session, ..
    } = &fixture();
    let port = forwards.add(workload(0)).await.unwrap();
    let listed = Port {
        local: port,
        target: "port 8888".to_owned(),
    };
    assert_eq!(*forwards.list().borrow(), [listed]);
    let _open = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    streams(session, 1).await;
}

#[tokio::test]
async fn a_port_that_was_removed_is_free_and_its_connections_are_reset() {
    let Fixture {
        forwards, session, ..
    } = &fixture();
    let port = forwards.add(workload(0)).await.unwrap();
    let kept = forwards.add(workload(0)).await.unwrap();
    let mut open = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut other = TcpStream::connect(("127.0.0.1", kept)).await.unwrap();
    streams(session, 2).await;

    forwards.remove(port).await.unwrap();

    TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let read = timeout(SOON, open.read(&mut [0])).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let listed: Vec<_> = forwards.list().borrow().iter().map(|port| port.local).collect();
    assert_eq!(listed, [kept]);
    let still_open = timeout(Duration::from_millis(50), other.read(&mut [0])).await;
    assert!(still_open.is_err(), "the other port's connection goes on");
}

#[tokio::test]
async fn a_taken_port_moves_the_forward_to_the_next_free_one() {
    let Fixture { forwards, .. } = &fixture();
    let (_taken, wanted) = taken().await;
    let port = forwards.add(workload(wanted)).await.unwrap();
    assert!(port > wanted, "{port}");
    assert_eq!(forwards.list().borrow()[0].local, port);
}

#[tokio::test]
async fn an_add_that_fails_leaves_everything_as_it_was() {
    let Fixture { forwards, .. } = &fixture();
    let kept = forwards.add(workload(0)).await.unwrap();
    let before = forwards.list().borrow().clone();
    // There is no port after the last one. If another program uses it, it cannot be bound either.
    let _last = TcpListener::bind(("127.0.0.1", u16::MAX)).await;
    let error = forwards.add(workload(u16::MAX)).await.unwrap_err();
    assert!(is_bind(&error, u16::MAX), "{error}");
    assert_eq!(*forwards.list().borrow(), before);
    TcpStream::connect(("127.0.0.1", kept)).await.unwrap();
}

#[tokio::test]
async fn removing_a_port_that_is_not_forwarded_is_refused_and_changes_nothing() {
    let Fixture { forwards, .. } = &fixture();
    let kept = forwards.add(workload(0)).await.unwrap();
    let (_taken, other) = taken().await;
    let refused = forwards.remove(other).await;
    assert!(matches!(refused, Err(ForwardError::NotForwarded(port)) if port == other));
    assert_eq!(forwards.list().borrow()[0].local, kept);
}

#[tokio::test]
async fn the_number_of_forwards_is_bounded() {
    let Fixture { forwards, .. } = &fixture();
    let mut last = 0;
    for _ in 0..FEW {
        last = forwards.add(workload(0)).await.unwrap();
    }
    assert!(matches!(
        forwards.add(workload(0)).await,
        Err(ForwardError::TooMany(FEW))
    ));
    forwards.remove(last).await.unwrap();
    forwards.add(workload(0)).await.unwrap();
}

#[tokio::test]
async fn when_the_actor_is_gone_its_ports_are_free_and_requests_are_refused() {
    let fixture = fixture();
    let port = fixture.forwards.add(workload(0)).await.unwrap();
    let Fixture {
        forwards,
        mut _running,
        ..
    } = fixture;
    _running.shutdown().await;
    assert!(matches!(
        forwards.add(workload(0)).await,
        Err(ForwardError::Ended)
    ));
    let free = async {
        while TcpListener::bind(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, free).await.unwrap();
}

#[test]
fn each_refusal_has_its_own_text_and_an_ordinary_end_none() {
    let told = [
        ResetCode::Refused,
        ResetCode::Unreachable,
        ResetCode::TimedOut,
        ResetCode::TooMany,
        ResetCode::NoWorkload,
        ResetCode::Unsupported,
    ]
    .map(|code| explain(code, "gpu").unwrap());
    assert_eq!(HashSet::from(told.clone()).len(), told.len());
    assert!(explain(ResetCode::TooMany, "gpu").unwrap().contains("too many"));
    assert_eq!(explain(ResetCode::ConnectionReset, "gpu"), None);
    assert_eq!(
        explain(ResetCode::Unsupported, "gpu").unwrap(),
        "the agent on gpu is older than this command: end the other sessions there and connect again"
    );
}
