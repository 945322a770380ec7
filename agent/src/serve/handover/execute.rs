//! Stops the sessions, executes the successor, and takes over in it.

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

/// How long the clients' farewells may take to be sent.
const FAREWELLS: Duration = Duration::from_millis(50);

/// Between two looks whether they were.
const LOOK: Duration = Duration::from_millis(1);

/// Stops all streams where they are. What is left of their sessions, with everything else.
///
/// The clients' connections are closed, and they come back at once by new ones. What they send meanwhile waits in the
/// kernel: nothing is read any more.
pub(crate) async fn close(shared: &Shared, rest: Rest) -> Snapshot {
    let sessions = shared.sessions.all();
    let mut leaving = Vec::new();
    for session in &sessions {
        let before = session.connection().map(|connection| sent(&connection));
        leaving.extend(session.freeze().zip(before));
    }
    let mut snapshot = Snapshot {
        head: Header {
            sessions: Vec::new(),
            linger_s: shared.context.idle.linger().as_secs(),
            allowed: shared.allowed.all(),
            reset_secret: shared.reset_secret,
            boot: shared.sessions.boot(),
            certificate: shared.identity.parts().0.to_vec(),
            key: shared.identity.parts().1.to_vec(),
        },
        udp: rest.udp,
        asker: None,
        locks: rest.locks,
        controls: rest.controls,
        sockets: Vec::new(),
        held: Vec::new(),
    };
    let standing = async {
        for session in sessions {
            let exported = session.export().await;
            snapshot.head.sessions.push(exported.state);
            snapshot.sockets.extend(exported.sockets);
            snapshot.held.extend(exported.held);
        }
    };
    if timeout(STANDSTILL, standing).await.is_err() {
        tracing::error!("streams did not stop; their sessions are lost");
    }
    let told = async {
        while leaving
            .iter()
            .any(|(connection, before)| sent(connection) == *before)
        {
            sleep(LOOK).await;
        }
    };
    // Who does not hear of it is told by the successor, with his next packet (RFC 9000, section 10.3).
    let _ = timeout(FAREWELLS, told).await;
    snapshot
}

fn sent(connection: &Connection) -> u64 {
    connection.stats().udp_tx.datagrams
}

/// What of a [`Server`](crate::serve::Server) goes over as it is.
pub(crate) struct Rest {
    pub(crate) udp: std::net::UdpSocket,
    pub(crate) locks: Vec<File>,
    pub(crate) controls: Vec<std::os::unix::net::UnixListener>,
}

/// Becomes the successor. Returns only when that failed: then nothing has changed, and the snapshot is as it was, without
/// the successor's lock.
pub(crate) fn become_successor(upgrade: Upgrade, snapshot: &mut Snapshot) -> (io::Error, Option<UnixStream>) {
    let Upgrade {
        asker,
        successor,
        run_dir,
        format,
        lock,
    } = upgrade;
    match asker.into_std() {
        Ok(asker) => snapshot.asker = Some(asker),
        Err(error) => return (error, None),
    }
    snapshot.locks.push(lock);
    let error = match execute(&successor, &run_dir, format, snapshot) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // Before anybody hears of the failure: the lock is then free for another start.
    snapshot.locks.pop();
    let asker = snapshot
        .asker
        .take()
        .and_then(|asker| UnixStream::from_std(asker).ok());
    (error, asker)
}

fn execute(successor: &Path, run_dir: &Path, format: u32, snapshot: &Snapshot) -> io::Result<Infallible> {
    rustix::stdio::dup2_stdin(snapshot.pack(format)?)?;
    let error = std::process::Command::new(successor)
        .args(["serve", "--inherit", "--run-dir"])
        .arg(run_dir)
        .exec();
    // std has exec give SIGPIPE its default back, which would end this process at the next write to a socket whose peer
    // is gone. Whoever registers for it is not ended by it; that holds for the first time only.
    if let Err(error) = signal(SignalKind::pipe()) {
        tracing::error!(%error, "SIGPIPE");
    }
    // What lies in it must not keep sockets open.
    null_stdin()?;
    Err(error)
}

/// What the predecessor left on standard input, which is empty afterwards.
///
/// # Errors
/// When there is nothing of the kind.
pub(crate) fn inherit() -> io::Result<Snapshot> {
    let snapshot = Snapshot::unpack(io::stdin());
    null_stdin()?;
    snapshot
}

/// Tells who asked for an upgrade what came of it.
pub(crate) async fn answer(mut asker: UnixStream, reply: &BootstrapReply) {
    // One that has gone does not need it.
    let _ = codec::write(&mut asker, reply, limits::BOOTSTRAP_FRAME).await;
}

fn null_stdin() -> io::Result<()> {
    let null: OwnedFd = File::open("/dev/null")?.into();
    Ok(rustix::stdio::dup2_stdin(null)?)
}
