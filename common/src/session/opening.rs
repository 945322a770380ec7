//! A stream before its socket is there: this end itself sends or reads the first bytes on it.

use bytes::Bytes;

use super::{
    first_frame::FirstFrame,
    leg::{Leg, LegEnd, LegSource},
    recv::Inbound,
    stream::Stream,
};
use crate::{codec::Frame, protocol::stream::ResetCode};

/// Where a stream stands whose first frame was read by this end:
/// [`Streams::proxy_from`](super::streams::Streams::proxy_from) goes on there.
#[derive(Default)]
pub struct Opening {
    pub(super) inbound: Inbound,
    /// The leg that is in use.
    pub(super) leg: Option<Leg>,
}

impl Opening {
    /// A newer leg is there.
    fn move_to(&mut self, leg: Leg) {
        self.inbound.begin(leg.at);
        self.leg = Some(leg);
    }

    /// Reads on until `frame` is there, or the leg has ended. Without a leg it waits.
    async fn read(&mut self, stream: &Stream, frame: &mut FirstFrame) -> Result<(), LegEnd> {
        let Some(leg) = &mut self.leg else {
            return std::future::pending().await;
        };
        let read = self.inbound.run_first(stream, leg, frame).await;
        read.map_err(|end| stream.leg_end(leg.generation, end))
    }
}

impl Stream {
    /// Sends `bytes` ahead of all that its socket will give. To be called before it is proxied.
    pub fn send_first(&self, bytes: Bytes) {
        self.change(|core| core.write(bytes));
        self.ready.notify_one();
    }

    /// Reads the first frame that comes back, of at most `limit` bytes. Nothing is sent meanwhile. Where the future is
    /// dropped, the stream is to be reset.
    ///
    /// # Errors
    /// Why the stream was reset.
    pub async fn first_frame<T: Frame>(
        &self,
        legs: &mut impl LegSource,
        limit: usize,
    ) -> Result<(T, Opening), ResetCode> {
        let mut opening = Opening::default();
        let mut frame = FirstFrame::new(limit);
        loop {
            tokio::select! {
                biased;
                () = self.settles() => break,
                () = self.context.ended() => self.reset(ResetCode::SessionLost),
                leg = legs.next() => opening.move_to(leg),
                read = opening.read(self, &mut frame) => match read {
                    Ok(()) => match T::decode(frame.body()) {
                        Ok(frame) => return Ok((frame, opening)),
                        Err(error) => self.violated(&error),
                    },
                    Err(end) => {
                        opening.leg = None;
                        if self.leg_ended(&end) {
                            break;
                        }
                    }
                },
            }
        }
        let code = self.reset_reason().map(|reset| reset.code().into());
        Err(code.map_or(ResetCode::ConnectionReset, ResetCode::from_wire))
    }
}
