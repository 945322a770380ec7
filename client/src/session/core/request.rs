//! A request to the agent, and its answer.

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

/// The answer to a request.
pub(crate) struct Events {
    receive: UnixStream,
}

impl Session {
    /// Sends a request; its events follow.
    ///
    /// # Errors
    /// When this process is out of descriptors.
    pub(crate) fn request(self: &Arc<Self>, request: Request) -> std::io::Result<Events> {
        let (ours, theirs) = UnixStream::pair()?;
        let (given_up, mut legs) = self.open(StreamHeader::Request(request));
        let streams = self.streams.clone();
        self.tasks.spawn(async move {
            let theirs = Socket::from(theirs);
            let ended = streams.proxy(&given_up.0, &theirs, &mut legs).await;
            tracing::debug!(?ended, "request");
        });
        Ok(Events { receive: ours })
    }
}

impl Events {
    /// The next event. Nothing follows a final one.
    ///
    /// # Errors
    /// When the session was lost or the agent speaks nonsense.
    pub(crate) async fn next(&mut self) -> Result<Event, FrameError> {
        codec::read(&mut self.receive, limits::CONTROL_FRAME).await
    }
}
