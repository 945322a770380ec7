//! Streams of the session: each is opened anew at the agent on every connection.

use std::{sync::Arc, time::Duration};

use jq_common::{
    codec::FrameError,
    protocol::{
        stream::{Header, ResetCode, StreamHeader},
        target::{Scope, Target},
    },
    session::{
        offers::Offers,
        socket::Socket,
        stream::{Ended, Stream},
    },
};
use tokio::{net::TcpStream, time::timeout};

use super::Session;

/// How long a forwarded connection waits for a workload that is being restarted. Bounded, because meanwhile nobody notices
/// whether the local side still waits.
const SERVED: Duration = Duration::from_secs(60);

impl Session {
    /// Forwards a TCP connection to `target` until both directions have ended. Dropping the future resets both sides.
    ///
    /// # Errors
    /// Why it was reset; `tcp` is reset too.
    pub async fn proxy(&self, tcp: TcpStream, target: Target) -> Result<(), ResetCode> {
        let socket = Socket::from(tcp);
        self.served(&target).await?;
        let header = StreamHeader::forward(target);
        let (stream, mut legs) = self.open(&header).map_err(|_| ResetCode::BadHeader)?;
        let ended = self.streams.proxy(&stream.0, &socket, &mut legs).await;
        match ended {
            Ended::Complete => Ok(()),
            Ended::Reset(code) => Err(code),
        }
    }

    /// Waits until `target` can be connected to, as far as the client knows.
    pub(super) async fn served(&self, target: &Target) -> Result<(), ResetCode> {
        if target.scope == Scope::Workload {
            let mut serving = self.serving.subscribe();
            let served = timeout(SERVED, serving.wait_for(|serving| *serving)).await;
            if !matches!(served, Ok(Ok(_))) {
                return Err(ResetCode::SessionLost);
            }
        }
        Ok(())
    }

    /// Opens a stream. The guard resets it when dropped.
    ///
    /// # Errors
    /// When the header is too long.
    pub(super) fn open(&self, header: &StreamHeader) -> Result<(ResetOnDrop, Offers), FrameError> {
        let header = Header::of(header)?;
        let stream = self.streams.open();
        let offers = Offers::new(stream.clone(), header, self.carrier.subscribe());
        Ok((ResetOnDrop(stream), offers))
    }
}

/// Resets its stream when dropped.
pub(super) struct ResetOnDrop(pub(super) Arc<Stream>);

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        // Has no effect on a complete stream.
        self.0.reset(ResetCode::ConnectionReset);
    }
}
