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
pub struct Events {
    receive: UnixStream,
    /// Why the request's stream was reset. Told before `receive` ends.
    reset: Arc<OnceLock<ResetCode>>,
}

/// Why there is no further event.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
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
    pub fn request(self: &Arc<Self>, request: Request) -> std::io::Result<Events> {
        let (ours, theirs) = UnixStream::pair()?;
        let (given_up, mut legs) = self
            .open(&StreamHeader::Request(request))
            .map_err(std::io::Error::other)?;
        let reset = Arc::new(OnceLock::new());
        let told = reset.clone();
        self.tasks.spawn(async move {
            let theirs = Socket::from(theirs);
            let ended = given_up.0.proxy(&theirs, &mut legs).await;
            tracing::debug!(?ended, "request");
            if let Ended::Reset(reset) = ended {
                // Nobody else tells it.
                let _ = told.set(reset.code());
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
    pub async fn next(&mut self) -> Result<Event, RequestError> {
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
