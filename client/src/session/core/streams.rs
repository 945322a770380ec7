//! Streams of the session: each is opened anew at the agent on every connection.

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
        let offers = Offers {
            stream: stream.clone(),
            header,
            carrier: self.carrier.subscribe(),
            used: 0,
        };
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

/// Opens a leg of its stream on every connection that carries the session.
pub(super) struct Offers {
    stream: Arc<Stream>,
    header: Header,
    carrier: watch::Receiver<Option<Carrier>>,
    /// Generation of the last leg.
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
                tracing::warn!(%error, "header cannot be encoded");
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
                // The session is dropped.
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
