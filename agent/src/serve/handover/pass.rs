//! Passes everything to another process over its control connection.
//!
//! ```text
//! successor                     agent
//! HandOver            ->
//!                     <-        Started, or a failure: nothing has changed
//!                     <-        the snapshot (SCM_RIGHTS, unix(7))
//! READY: it was read  ->
//!                     <-        GO: the agent is no more. STAY: it goes on, and the successor ends
//! ```
//!
//! Exactly one of the two serves at any time: the successor before GO does not, and the agent after GO does not. Where an
//! agent ends before it has said either, the successor is the only one that has everything, and serves.

use std::{io, os::fd::AsFd, time::Duration};

use jq_common::{
    bootstrap::{BootstrapReply, BootstrapRequest, HandOverRequest, Started},
    codec,
    protocol::{limits, version::ALPN},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
    time::timeout,
};

use super::snapshot::Snapshot;
use crate::{
    bootstrap::contract::{PREPARATION, SNAPSHOT_FORMATS, START},
    fd_passing,
    rundir::RunDir,
};

/// Comes with the snapshot.
const PASSED: u8 = 1;
/// The successor has read the snapshot.
const READY: u8 = 2;
/// The successor serves from now on.
const GO: u8 = 3;
/// The agent goes on.
const STAY: u8 = 4;

/// Passes `snapshot` to the successor at the other end of `stream`. Once this has returned, the successor has everything,
/// and this process must end at once.
///
/// # Errors
/// When the successor does not get it or cannot read it. It was then told not to serve.
pub(crate) async fn pass_to(mut stream: UnixStream, snapshot: &Snapshot, format: u32) -> io::Result<()> {
    let passed = match pass(&mut stream, snapshot, format).await {
        // Taken by the kernel as a whole: the successor is told, or is gone.
        Ok(()) => stream.write_all(&[GO]).await,
        Err(error) => Err(error),
    };
    if passed.is_err() {
        // A successor that is gone does not need it.
        let _ = stream.write_all(&[STAY]).await;
    }
    passed
}

async fn pass(stream: &mut UnixStream, snapshot: &Snapshot, format: u32) -> io::Result<()> {
    let packed = snapshot.pack(format)?;
    let send = || fd_passing::send(&*stream, &[PASSED], &[packed.as_fd()]);
    stream.async_io(Interest::WRITABLE, send).await?;
    match byte(stream, START).await? {
        READY => Ok(()),
        _ => Err(io::Error::other("the successor cannot read what it was passed")),
    }
}

/// A predecessor whose snapshot was read.
pub(crate) struct Taken {
    stream: UnixStream,
    pub(crate) snapshot: Snapshot,
}

/// Asks the agent that serves in `folder` to hand over to this process. Call it before this process has any other part in
/// the role.
///
/// # Errors
/// Why it does not, as it says; or that the snapshot cannot be read. The agent then goes on.
pub(crate) async fn take_from(folder: &RunDir) -> io::Result<Taken> {
    let mut stream = folder.connect().await?;
    let request = BootstrapRequest::HandOver(HandOverRequest {
        handshake: String::from_utf8_lossy(ALPN).into_owned(),
        formats: SNAPSHOT_FORMATS,
    });
    codec::write(&mut stream, &request, limits::BOOTSTRAP_FRAME)
        .await
        .map_err(io::Error::other)?;
    let reply: BootstrapReply = codec::read_within(&mut stream, limits::BOOTSTRAP_FRAME, PREPARATION)
        .await
        .map_err(io::Error::other)?;
    match reply {
        Ok(Started::Serve(_)) => {}
        Ok(Started::Relay(_)) => return Err(io::Error::other("a relay answers")),
        Err(failure) => return Err(io::Error::other(failure.why)),
    }
    let snapshot = timeout(PREPARATION, received(&stream))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(Taken { stream, snapshot })
}

async fn received(stream: &UnixStream) -> io::Result<Snapshot> {
    let mut message = [0];
    let received = stream
        .async_io(Interest::READABLE, || fd_passing::receive(stream, &mut message))
        .await?;
    let passed = received.descriptors.into_iter().next();
    match (message, passed) {
        ([PASSED], Some(passed)) => Snapshot::unpack(passed),
        _ => Err(io::Error::other("the agent goes on")),
    }
}

impl Taken {
    /// Tells the predecessor that its snapshot was read, and returns that once it serves no more.
    ///
    /// # Errors
    /// When it goes on: this process must end then.
    pub(crate) async fn accept(self) -> io::Result<Snapshot> {
        let Self { mut stream, snapshot } = self;
        // Fails only when the predecessor is gone.
        let _ = stream.write_all(&[READY]).await;
        match byte(&mut stream, START).await {
            Ok(GO) => Ok(snapshot),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(snapshot),
            Ok(_) | Err(_) => Err(io::Error::other("the agent goes on")),
        }
    }
}

async fn byte(stream: &mut UnixStream, limit: Duration) -> io::Result<u8> {
    timeout(limit, stream.read_u8())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
