//! Requests to the agent.

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

/// The events that answer a request.
pub(crate) struct Events {
    receive: UnixStream,
    /// Why the request's stream was reset. Set before `receive` ends.
    reset: Arc<OnceLock<ResetCode>>,
}

/// Why there is no further event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The session was lost, or the agent sent invalid data.
    #[error(transparent)]
    Frame(FrameError),
    /// The agent does not support the request: it is older than this client.
    #[error("the agent is older than this command")]
    Unsupported,
}

impl Session {
    /// Sends a request.
    ///
    /// # Errors
    /// When this process has no more descriptors, or the request is too long.
    pub(crate) fn request(self: &Arc<Self>, request: Request) -> std::io::Result<Events> {
        let (ours, theirs) = UnixStream::pair()?;
        let header = StreamHeader::Request(request);
        let (stream, mut legs) = self.open(&header).map_err(std::io::Error::other)?;
        let reset = Arc::new(OnceLock::new());
        let cause = reset.clone();
        let streams = self.streams.clone();
        self.tasks.spawn(async move {
            let theirs = Socket::from(theirs);
            let ended = streams.proxy(&stream.0, &theirs, &mut legs).await;
            tracing::debug!(?ended, "request");
            if let Ended::Reset(code) = ended {
                // It is set only here.
                let _ = cause.set(code);
            }
            drop(theirs);
        });
        Ok(Events { receive: ours, reset })
    }
}

impl Events {
    /// The next event that this build understands. Nothing follows `Ready` or `Failed`.
    ///
    /// # Errors
    /// A [`RequestError`].
    pub(crate) async fn next(&mut self) -> Result<Event, RequestError> {
        loop {
            match codec::read(&mut self.receive, limits::CONTROL_FRAME).await {
                Ok(event) => return Ok(event),
                Err(error @ FrameError::Unsupported(_)) => {
                    tracing::debug!(%error, "event of a newer agent");
                }
                Err(_) if self.reset.get() == Some(&ResetCode::Unsupported) => {
                    return Err(RequestError::Unsupported);
                }
                Err(error) => return Err(RequestError::Frame(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn events() -> (UnixStream, Events) {
        let (ours, agent) = UnixStream::pair().unwrap();
        let events = Events {
            receive: ours,
            reset: Arc::default(),
        };
        (agent, events)
    }

    #[tokio::test]
    async fn an_event_that_this_version_does_not_know_is_skipped() {
        let (mut agent, mut events) = events();
        for json in [r#"{"fireworks":{}}"#, r#"{"note":"hello"}"#] {
            agent.write_u32(json.len() as u32).await.unwrap();
            agent.write_all(json.as_bytes()).await.unwrap();
        }
        assert_eq!(events.next().await.unwrap(), Event::Note("hello".to_owned()));
        drop(agent);
        assert!(matches!(
            events.next().await,
            Err(RequestError::Frame(FrameError::Ended))
        ));
    }

    #[tokio::test]
    async fn an_agent_without_support_for_the_request_is_not_taken_for_a_lost_session() {
        let (agent, mut events) = events();
        events.reset.set(ResetCode::Unsupported).unwrap();
        drop(agent);
        assert!(matches!(events.next().await, Err(RequestError::Unsupported)));
    }
}
