//! A stream of the session, offered to the agent on each connection that comes to carry it.

use std::{sync::Arc, time::Duration};

use jq_common::{
    codec::{self, FrameError},
    protocol::{
        limits,
        session::Open,
        stream::{Header, ResetCode, StreamHeader},
        target::{Scope, Target},
    },
    session::{
        leg::{Leg, LegSource, Receiver, Sender},
        socket::Socket,
        stream::{Ended, Stream},
    },
};
use tokio::{net::TcpStream, sync::watch, time::timeout};

use super::{Carrier, Session};

/// How long a connection waits for a workload that is being started again: nobody sees meanwhile whether its other end
/// still does.
const SERVED: Duration = Duration::from_secs(60);

impl Session {
    /// Carries a TCP connection to `target` until both of its ways have ended. Dropped before, it resets both sides.
    ///
    /// # Errors
    /// Why it was reset; `tcp` has then been reset too.
    pub async fn proxy(&self, tcp: TcpStream, target: Target) -> Result<(), ResetCode> {
        let socket = Socket::from(tcp);
        self.served(&target).await?;
        let header = StreamHeader::forward(target);
        let (given_up, mut legs) = self.open(&header).map_err(|_| ResetCode::BadHeader)?;
        let ended = self.streams.proxy(&given_up.0, &socket, &mut legs).await;
        match ended {
            Ended::Complete => Ok(()),
            Ended::Reset(code) => Err(code),
        }
    }

    /// Returns once `target` can be connected to, as far as this end knows.
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

    /// A new stream, and its legs.
    ///
    /// # Errors
    /// When the header is too long.
    pub(super) fn open(&self, header: &StreamHeader) -> Result<(GivenUp, Offers), FrameError> {
        let header = Header::of(header)?;
        let stream = self.streams.open();
        let offers = Offers {
            stream: stream.clone(),
            header,
            carrier: self.carrier.subscribe(),
            used: 0,
        };
        Ok((GivenUp(stream), offers))
    }
}

/// A stream whose work may be dropped: then it is reset.
pub(super) struct GivenUp(pub(super) Arc<Stream>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        // Changes nothing for one that is complete.
        self.0.reset(ResetCode::ConnectionReset);
    }
}

/// The legs of a stream: one on each connection that comes to carry the session.
pub(super) struct Offers {
    stream: Arc<Stream>,
    header: Header,
    carrier: watch::Receiver<Option<Carrier>>,
    /// Generation of the last one.
    used: u64,
}

impl Offers {
    async fn offer(&self, carrier: &Carrier) -> Option<Leg> {
        let (send, receive) = carrier.connection.open_bi().await.ok()?;
        let (mut send, receive) = (Sender::new(send), Receiver::new(receive));
        let (open, at) = {
            let mut core = self.stream.core();
            if !core.offer(carrier.generation) {
                return None;
            }
            let at = core.recv_state().received();
            let open = Open {
                stream: core.id(),
                from: core.send_buffer().sent(),
                received: at,
                header: (!core.is_confirmed()).then(|| self.header.clone()),
            };
            (open, at)
        };
        let frame = match codec::encode(&open, limits::HEADER_FRAME) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%error, "a header that cannot be sent");
                self.stream.reset(ResetCode::BadHeader);
                return None;
            }
        };
        send.stream().write_chunk(frame.into()).await.ok()?;
        Some(Leg {
            generation: carrier.generation,
            send,
            receive,
            at,
        })
    }
}

impl LegSource for Offers {
    async fn next(&mut self) -> Leg {
        loop {
            let used = self.used;
            let newer = |carrier: &Option<Carrier>| carrier.as_ref().is_some_and(|c| c.generation > used);
            let newest = self.carrier.wait_for(newer).await.map(|carrier| carrier.clone());
            let Ok(Some(carrier)) = newest else {
                // The session is being dropped.
                return std::future::pending().await;
            };
            let leg = self.offer(&carrier).await;
            self.used = carrier.generation;
            if let Some(leg) = leg {
                return leg;
            }
        }
    }
}
