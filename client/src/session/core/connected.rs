//! A connection whose target has answered before anything is carried.

use std::sync::Arc;

use jq_common::{
    protocol::{
        capabilities::Capabilities,
        limits,
        stream::{Opened, ResetCode, StreamHeader},
        target::Target,
    },
    session::{opening::Opening, socket::Socket, stream::Ended, streams::Streams},
};

use super::{
    Session,
    streams::{GivenUp, Offers},
};

/// A connection that the agent has opened, without a local end yet. Dropped, it is reset.
pub struct Connected {
    streams: Arc<Streams>,
    given_up: GivenUp,
    legs: Offers,
    opening: Opening,
}

impl Session {
    /// Connects to `target`, and returns once the agent has. Before the first attach it waits for that.
    ///
    /// # Errors
    /// Why there is no connection: [`ResetCode::Unsupported`] where the agent cannot tell.
    pub async fn connect(&self, target: Target) -> Result<Connected, ResetCode> {
        self.served(&target).await?;
        let mut agent = self.agent.subscribe();
        // Fails only with the session.
        let known = agent.wait_for(Option::is_some).await.is_ok();
        if !known || !self.has(Capabilities::OPENED) {
            return Err(ResetCode::Unsupported);
        }
        let header = StreamHeader::Forward {
            target,
            confirm: true,
        };
        let (given_up, mut legs) = self.open(&header).map_err(|_| ResetCode::BadHeader)?;
        let first = given_up
            .0
            .first_frame::<Opened>(&mut legs, limits::REPLY_FRAME)
            .await?;
        Ok(Connected {
            streams: self.streams.clone(),
            given_up,
            legs,
            opening: first.1,
        })
    }
}

impl Connected {
    /// Carries `socket` until both of its ways have ended. Dropped before, it resets both sides.
    ///
    /// # Errors
    /// Why it was reset; `socket` has then been reset too.
    pub async fn proxy(self, socket: impl Into<Socket>) -> Result<(), ResetCode> {
        let Self {
            streams,
            given_up,
            mut legs,
            opening,
        } = self;
        let socket = socket.into();
        let carrying = streams.proxy_from(opening, &given_up.0, &socket, &mut legs);
        match carrying.await {
            Ended::Complete => Ok(()),
            Ended::Reset(code) => Err(code),
        }
    }
}
