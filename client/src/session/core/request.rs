//! Requests to the agent.

use std::sync::Arc;

use jq_common::{
    codec::{self, FrameError},
    protocol::{
        limits,
        stream::StreamHeader,
        workload::{Event, Request},
    },
    session::socket::Socket,
};
use tokio::net::UnixStream;

use super::Session;

/// The events that answer a request.
pub(crate) struct Events {
    receive: UnixStream,
}

impl Session {
    /// Sends a request.
    ///
    /// # Errors
    /// When this process has no more descriptors.
    pub(crate) fn request(self: &Arc<Self>, request: Request) -> std::io::Result<Events> {
        let (ours, theirs) = UnixStream::pair()?;
        let (stream, mut legs) = self.open(StreamHeader::Request(request));
        let streams = self.streams.clone();
        self.tasks.spawn(async move {
            let theirs = Socket::from(theirs);
            let ended = streams.proxy(&stream.0, &theirs, &mut legs).await;
            tracing::debug!(?ended, "request");
        });
        Ok(Events { receive: ours })
    }
}

impl Events {
    /// The next event. Nothing follows `Ready` or `Failed`.
    ///
    /// # Errors
    /// When the session was lost, or the agent sent invalid data.
    pub(crate) async fn next(&mut self) -> Result<Event, FrameError> {
        codec::read(&mut self.receive, limits::CONTROL_FRAME).await
    }
}
