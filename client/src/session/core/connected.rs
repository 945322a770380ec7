//! A connection whose target has answered before anything is carried.

use jq_common::{
    protocol::{
        capabilities::Capabilities,
        limits,
        stream::{Opened, ResetCode, StreamHeader},
        target::Target,
    },
    session::{opening::Opening, socket::Socket, stream::Ended},
};

use super::{
    Session,
    offers::{GivenUp, Offers},
};

/// A connection that the agent has opened, without a local end yet. Dropped, it is reset.
pub struct Connected {
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
    pub async fn carry(self, socket: impl Into<Socket>) -> Result<(), ResetCode> {
        let Self {
            given_up,
            mut legs,
            opening,
        } = self;
        let socket = socket.into();
        match given_up.0.proxy_from(opening, &socket, &mut legs).await {
            Ended::Complete => Ok(()),
            Ended::Reset(reset) => Err(reset.code()),
        }
    }
}
