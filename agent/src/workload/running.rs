//! A running workload as the rest of the agent sees it.

use std::{io, sync::Arc};

use futures_util::future::BoxFuture;
use jq_common::protocol::workload::Ready;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

/// A connection into a workload.
pub(crate) type Connected = Either<TcpStream, UnixStream>;

/// A running workload: a container, or processes of the host.
pub(crate) trait RunningWorkload: Send + Sync {
    /// Connects to `port` on the workload's 127.0.0.1, then on its ::1; to the socket of its Jupyter for
    /// [`SOCKET_PORT`](super::jupyter::SOCKET_PORT). May be dropped at any point.
    ///
    /// # Errors
    /// The error of the connect; `NotConnected` or `BrokenPipe` when there is no way into the workload's network;
    /// `PermissionDenied` when the port is reserved for the workload and another user listens there.
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<Connected>>;

    /// Resolves when what the workload runs in was restarted by somebody else, so that whatever was started beside its own
    /// command is gone. Never for processes. May be dropped at any point.
    fn restarted(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// A workload that was started or found.
pub(crate) struct Started {
    /// What is reported to the client.
    pub(crate) ready: Ready,
    /// The workload.
    pub(crate) running: Arc<dyn RunningWorkload>,
}

/// A workload whose ports all lead to one port of the machine that runs the tests.
#[cfg(test)]
pub(crate) struct StandIn(pub(crate) u16);

#[cfg(test)]
impl RunningWorkload for StandIn {
    fn dial(&self, _: u16) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async { Ok(Either::Left(crate::netns_helper::dial_loopback(self.0).await?)) })
    }
}
