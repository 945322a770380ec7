//! A leg on each connection, for the end that opens streams.

use std::sync::Arc;

use quinn::Connection;
use tokio::sync::watch;

use super::{
    leg::{Leg, LegSource, Receiver, Sender},
    stream::Stream,
};
use crate::{
    codec,
    protocol::{
        limits,
        session::Open,
        stream::{Header, ResetCode},
    },
};

/// A connection that carries the session.
#[derive(Clone, Debug)]
pub struct Carrier {
    /// Counts the attaches of the session; a higher one is newer.
    pub generation: u64,
    /// The connection.
    pub connection: Connection,
}

/// Opens a leg of its stream on every connection that carries the session.
pub struct Offers {
    stream: Arc<Stream>,
    header: Header,
    carrier: watch::Receiver<Option<Carrier>>,
    /// Generation of the last leg.
    used: u64,
}

impl Offers {
    /// The legs of `stream` on each new `carrier`; `header` is sent until the peer has confirmed the stream.
    #[must_use]
    pub fn new(stream: Arc<Stream>, header: Header, carrier: watch::Receiver<Option<Carrier>>) -> Self {
        Self {
            stream,
            header,
            carrier,
            used: 0,
        }
    }

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
