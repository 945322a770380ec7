//! Freezes the sessions for a successor.

use std::{fs::File, time::Duration};

use quinn::Connection;
use tokio::time::{sleep, timeout};

use super::{header::Header, snapshot::Snapshot};
use crate::{bootstrap::contract::STANDSTILL, serve::shared::Shared};

/// Time limit for sending CONNECTION_CLOSE to the clients.
const CLOSE_SENT: Duration = Duration::from_millis(50);

/// Interval between checks whether it was sent.
const CLOSE_CHECK: Duration = Duration::from_millis(1);

/// Freezes all streams and returns the snapshot of their sessions and of everything else.
///
/// The clients' connections are closed, and the clients reconnect at once. Packets that arrive meanwhile stay in the
/// kernel for the successor, because nothing reads the socket any more.
pub(crate) async fn freeze_sessions(shared: &Shared, descriptors: Descriptors) -> Snapshot {
    let sessions = shared.sessions.all();
    let mut closing = Vec::new();
    for session in &sessions {
        let before = session.connection().map(|connection| datagrams_sent(&connection));
        closing.extend(session.freeze().zip(before));
    }
    let mut snapshot = Snapshot {
        header: Header {
            sessions: Vec::new(),
            linger_s: shared.context.idle.linger().as_secs(),
            umask: shared.login.umask,
            allowed: shared.allowed.all(),
            reset_secret: shared.reset_secret,
            boot: shared.sessions.boot(),
            certificate: shared.identity.parts().0.to_vec(),
            key: shared.identity.parts().1.to_vec(),
        },
        udp: descriptors.udp,
        requester: None,
        locks: descriptors.locks,
        controls: descriptors.controls,
        sockets: Vec::new(),
        send_buffers: Vec::new(),
    };
    let frozen = async {
        for session in sessions {
            let exported = session.export().await;
            snapshot.header.sessions.push(exported.state);
            snapshot.sockets.extend(exported.sockets);
            snapshot.send_buffers.extend(exported.send_buffers);
        }
    };
    if timeout(STANDSTILL, frozen).await.is_err() {
        tracing::error!("the streams did not stop in time; their sessions are lost");
    }
    let closed = async {
        while closing
            .iter()
            .any(|(connection, before)| datagrams_sent(connection) == *before)
        {
            sleep(CLOSE_CHECK).await;
        }
    };
    // A client that missed the close gets a stateless reset from the successor on its next packet (RFC 9000, section
    // 10.3).
    let _ = timeout(CLOSE_SENT, closed).await;
    snapshot
}

fn datagrams_sent(connection: &Connection) -> u64 {
    connection.stats().udp_tx.datagrams
}

/// Descriptors of a [`Server`](crate::serve::Server) that are handed over unchanged.
pub(crate) struct Descriptors {
    pub(crate) udp: std::net::UdpSocket,
    pub(crate) locks: Vec<File>,
    pub(crate) controls: Vec<std::os::unix::net::UnixListener>,
}
