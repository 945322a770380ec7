//! Freezes the sessions, executes the successor, and receives the snapshot in it.

use std::{
    convert::Infallible,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    time::Duration,
};

use jq_common::{bootstrap::BootstrapReply, codec, protocol::limits};
use quinn::Connection;
use tokio::{
    net::UnixStream,
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};

use super::{header::Header, snapshot::Snapshot};
use crate::{
    bootstrap::contract::STANDSTILL,
    serve::{shared::Shared, upgrade::Upgrade},
};

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

/// Executes the successor. Returns only on failure: then nothing has changed, and the snapshot is complete, without the
/// successor's lock.
pub(crate) fn execute_successor(
    upgrade: Upgrade,
    snapshot: &mut Snapshot,
) -> (io::Error, Option<UnixStream>) {
    let Upgrade {
        requester,
        successor,
        run_dir,
        format,
        lock,
    } = upgrade;
    match requester.into_std() {
        Ok(requester) => snapshot.requester = Some(requester),
        Err(error) => return (error, None),
    }
    snapshot.locks.push(lock);
    let error = match execute(&successor, &run_dir, format, snapshot) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // Before the failure is reported: the lock must be free for another start.
    snapshot.locks.pop();
    let requester = snapshot
        .requester
        .take()
        .and_then(|requester| UnixStream::from_std(requester).ok());
    (error, requester)
}

fn execute(successor: &Path, run_dir: &Path, format: u32, snapshot: &Snapshot) -> io::Result<Infallible> {
    rustix::stdio::dup2_stdin(snapshot.pack(format)?)?;
    let error = std::process::Command::new(successor)
        .args(["serve", "--inherit", "--run-dir"])
        .arg(run_dir)
        .exec();
    // std restores the default action of SIGPIPE before exec, so after a failed exec the next write to a closed socket
    // would end this process. Registering a handler prevents that; it works only for the first registration.
    if let Err(error) = signal(SignalKind::pipe()) {
        tracing::error!(%error, "cannot handle SIGPIPE");
    }
    // A snapshot that remains in standard input would keep its sockets open.
    null_stdin()?;
    Err(error)
}

/// Receives the snapshot that the predecessor left on standard input, and empties that.
///
/// # Errors
/// When standard input holds no snapshot.
pub(crate) fn receive_snapshot() -> io::Result<Snapshot> {
    let snapshot = Snapshot::unpack(io::stdin());
    null_stdin()?;
    snapshot
}

/// Sends the result of an upgrade to the bootstrap that requested it.
pub(crate) async fn reply(mut requester: UnixStream, result: &BootstrapReply) {
    // A bootstrap that is gone does not need the reply.
    let _ = codec::write(&mut requester, result, limits::BOOTSTRAP_FRAME).await;
}

fn null_stdin() -> io::Result<()> {
    let null: OwnedFd = File::open("/dev/null")?.into();
    Ok(rustix::stdio::dup2_stdin(null)?)
}
