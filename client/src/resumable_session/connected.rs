//! Connections whose target is known to have accepted before data is forwarded.

use std::sync::Arc;

use jq_common::{
    protocol::{
        capabilities::Capabilities,
        limits,
        stream::{Opened, ResetCode, StreamHeader},
        target::Target,
    },
    session::{offers::Offers, opening::Opening, socket::Socket, stream::Ended, streams::Streams},
};

use super::{Session, streams::ResetOnDrop};

/// A connection that the agent has established, without a local socket yet. Dropping it resets it.
pub struct Connected {
    streams: Arc<Streams>,
    stream: ResetOnDrop,
    legs: Offers,
    opening: Opening,
}

impl Session {
    /// Connects to `target`, and returns when the agent has connected. Waits for the first attach.
    ///
    /// # Errors
    /// Why the connection failed; [`ResetCode::Unsupported`] if the agent cannot confirm connections.
    pub async fn connect(&self, target: Target) -> Result<Connected, ResetCode> {
        self.served(&target).await?;
        let mut agent = self.agent.subscribe();
        // Fails only when the session is dropped.
        let known = agent.wait_for(Option::is_some).await.is_ok();
        if !known || !self.has(Capabilities::OPENED) {
            return Err(ResetCode::Unsupported);
        }
        let header = StreamHeader::Forward {
            target,
            confirm: true,
        };
        let (stream, mut legs) = self.open(&header).map_err(|_| ResetCode::BadHeader)?;
        let first = stream
            .0
            .first_frame::<Opened>(&mut legs, limits::REPLY_FRAME)
            .await?;
        Ok(Connected {
            streams: self.streams.clone(),
            stream,
            legs,
            opening: first.1,
        })
    }
}

impl Connected {
    /// Forwards `socket` until both directions have ended. Dropping the future resets both sides.
    ///
    /// # Errors
    /// Why it was reset; `socket` is reset too.
    pub async fn proxy(self, socket: impl Into<Socket>) -> Result<(), ResetCode> {
        let Self {
            streams,
            stream,
            mut legs,
            opening,
        } = self;
        let socket = socket.into();
        let carrying = streams.proxy_from(opening, &stream.0, &socket, &mut legs);
        match carrying.await {
            Ended::Complete => Ok(()),
            Ended::Reset(code) => Err(code),
        }
    }
}
