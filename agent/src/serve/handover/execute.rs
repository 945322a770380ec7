//! Executes the successor, and receives the snapshot in it.

use std::{
    convert::Infallible,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
};

use jq_common::{bootstrap::BootstrapReply, codec, protocol::limits};
use tokio::{
    net::UnixStream,
    signal::unix::{SignalKind, signal},
};

use super::snapshot::Snapshot;

/// Executes the successor. Returns only on failure: then nothing has changed, and the snapshot is complete, without the
/// successor's lock.
pub(crate) fn execute_successor(
    requester: UnixStream,
    format: u32,
    (file, run_dir, lock): (PathBuf, PathBuf, File),
    snapshot: &mut Snapshot,
) -> (io::Error, Option<UnixStream>) {
    match requester.into_std() {
        Ok(requester) => snapshot.requester = Some(requester),
        Err(error) => return (error, None),
    }
    snapshot.locks.push(lock);
    let error = match execute(&file, &run_dir, format, snapshot) {
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
