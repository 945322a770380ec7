//! A request to the agent, and its answer.

use std::sync::{Arc, OnceLock};

use jq_common::{
    codec::{self, FrameError},
    protocol::{
        limits,
        stream::{ResetCode, StreamHeader},
        workload::{Event, Request},
    },
    session::{socket::Socket, stream::Ended},
};
use tokio::net::UnixStream;

use super::Session;

/// The answer to a request.
pub(crate) struct Events {
    receive: UnixStream,
    /// Why the request's stream was reset. Set before `receive` ends.
    reset: Arc<OnceLock<ResetCode>>,
}

/// Why there is no further event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The session was lost, or the agent says what cannot be.
    #[error(transparent)]
    Frame(FrameError),
    /// The agent does not understand the request: it is older than this client.
    #[error("the agent is older than this command")]
    Unsupported,
}

impl Session {
    /// Sends a request; its events follow.
    ///
    /// # Errors
    /// When this process is out of descriptors, or the request is too long.
    pub(crate) fn request(self: &Arc<Self>, request: Request) -> std::io::Result<Events> {
        let (ours, theirs) = UnixStream::pair()?;
        let header = StreamHeader::Request(request);
        let (given_up, mut legs) = self.open(&header).map_err(std::io::Error::other)?;
        let reset = Arc::new(OnceLock::new());
        let told = reset.clone();
        let streams = self.streams.clone();
        self.tasks.spawn(async move {
            let theirs = Socket::from(theirs);
            let ended = streams.proxy(&given_up.0, &theirs, &mut legs).await;
            tracing::debug!(?ended, "request");
            if let Ended::Reset(code) = ended {
                // Nobody else sets it.
                let _ = told.set(code);
            }
            drop(theirs);
        });
        Ok(Events { receive: ours, reset })
    }
}

impl Events {
    /// The next event that this build understands. Nothing follows a final one.
    ///
    /// # Errors
    /// A [`RequestError`].
    pub(crate) async fn next(&mut self) -> Result<Event, RequestError> {
        loop {
            match codec::read(&mut self.receive, limits::CONTROL_FRAME).await {
                Ok(event) => return Ok(event),
                Err(error @ FrameError::Unsupported(_)) => {
                    tracing::debug!(%error, "an event of a newer agent");
                }
                Err(_) if self.reset.get() == Some(&ResetCode::Unsupported) => {
                    return Err(RequestError::Unsupported);
                }
                Err(error) => return Err(RequestError::Frame(error)),
            }
        }
    }
}
