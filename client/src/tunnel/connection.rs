//! The connection to the agent: requests, and one stream for each forwarded TCP connection.

use jq_common::{
    codec::{self, FrameError},
    forward::{ForwardError, Sender, forward},
    protocol::{
        control::{Event, Request},
        limits,
        stream::{ResetCode, StreamHeader, Target},
    },
};
use quinn::{ConnectionError, RecvStream, VarInt};
use tokio::net::TcpStream;

use super::paths::{Connected, Path};

/// A connection to an agent that let us in.
#[derive(Clone)]
pub struct AgentConnection {
    connection: quinn::Connection,
    endpoint: quinn::Endpoint,
    path: Path,
}

/// The answer to a request.
pub struct Events {
    receive: RecvStream,
}

impl AgentConnection {
    /// Takes over a connection that was made.
    #[must_use]
    pub fn new(connected: Connected) -> Self {
        Self {
            connection: connected.connection,
            endpoint: connected.endpoint,
            path: connected.path,
        }
    }

    /// The way its packets take.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The smoothed round-trip time.
    #[must_use]
    pub fn round_trip(&self) -> std::time::Duration {
        self.connection.rtt()
    }

    /// Sends a request; its events follow.
    ///
    /// # Errors
    /// When the connection is lost, or the request is too long to be sent.
    pub async fn request(&self, request: Request) -> Result<Events, FrameError> {
        let (mut send, receive) = self.connection.open_bi().await.map_err(std::io::Error::from)?;
        codec::write(&mut send, &StreamHeader::Request(request), limits::HEADER_FRAME).await?;
        // Fails only when the stream is lost already, and then the events say so.
        let _ = send.finish();
        Ok(Events { receive })
    }

    /// Carries a TCP connection to `target` until both of its ways have ended.
    ///
    /// # Errors
    /// When it did not end cleanly; `tcp`, which was [set to](jq_common::forward::reset_on_close), has then been reset.
    pub async fn carry(&self, tcp: TcpStream, target: Target) -> Result<(), ForwardError> {
        let (send, receive) = self.open(target).await?;
        forward(tcp, send, receive).await.map(drop)
    }

    async fn open(&self, target: Target) -> Result<(Sender, RecvStream), ForwardError> {
        let (send, receive) = self.connection.open_bi().await?;
        let mut send = Sender::new(send);
        let header = StreamHeader::Forward(target);
        let frame = codec::encode(&header, limits::HEADER_FRAME)
            .map_err(|error| ForwardError::Stream(error.to_string()))?;
        send.stream().write_chunk(frame.into()).await?;
        Ok((send, receive))
    }

    /// Returns when the connection is lost, and why.
    pub async fn lost(&self) -> ConnectionError {
        self.connection.closed().await
    }

    /// Ends the connection; the agent hears it at once.
    pub async fn close(self) {
        self.connection.close(VarInt::from_u32(0), b"client leaves");
        self.endpoint.wait_idle().await;
    }
}

impl Events {
    /// The next event. Nothing follows a final one.
    ///
    /// # Errors
    /// When the connection is lost or the agent speaks nonsense.
    pub async fn next(&mut self) -> Result<Event, FrameError> {
        codec::read(&mut self.receive, limits::CONTROL_FRAME).await
    }
}

/// What a refused forward means, for a note to the user. None for an ordinary end.
#[must_use]
pub fn explain(error: &ForwardError) -> Option<&'static str> {
    match error {
        ForwardError::Peer(ResetCode::Refused) => Some("nothing listens there"),
        ForwardError::Peer(ResetCode::Unreachable) => Some("the host cannot reach it"),
        ForwardError::Peer(ResetCode::TimedOut) => Some("it does not answer"),
        ForwardError::Peer(ResetCode::NoWorkload) => Some("the container does not run"),
        _ => None,
    }
}
