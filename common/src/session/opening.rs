//! A stream before its socket is there: this end itself sends or reads the first bytes on it.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::{
    leg::{Leg, LegEnd, LegSource},
    recv::Inbound,
    stream::Stream,
};
use crate::{codec::Frame, protocol::stream::ResetCode};

/// A frame's length.
const PREFIX: usize = 4;

/// Where a stream stands whose first frame was read by this end: [`Stream::proxy_from`] goes on there.
#[derive(Default)]
pub struct Opening {
    pub(super) inbound: Inbound,
    /// The leg that is in use.
    pub(super) leg: Option<Leg>,
}

/// A frame that comes in pieces.
pub(super) struct FirstFrame {
    bytes: Vec<u8>,
    limit: usize,
}

impl FirstFrame {
    fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
        }
    }

    /// How many bytes are missing, as far as that is known. None when the frame is too long.
    fn missing(&self) -> Option<usize> {
        let Some((length, body)) = self.bytes.split_first_chunk::<PREFIX>() else {
            return Some(PREFIX - self.bytes.len());
        };
        let length = u32::from_be_bytes(*length) as usize;
        (length <= self.limit).then(|| length - body.len())
    }

    /// Takes its own from the beginning of `chunk`, and returns how many bytes that were. None when the frame is too long.
    pub(super) fn take(&mut self, chunk: &mut Bytes) -> Option<usize> {
        let before = chunk.len();
        while !chunk.is_empty() {
            let count = self.missing()?.min(chunk.len());
            if count == 0 {
                break;
            }
            self.bytes.extend_from_slice(&chunk[..count]);
            chunk.advance(count);
        }
        self.missing()?;
        Some(before - chunk.len())
    }

    /// Whether all of it is there.
    pub(super) fn is_complete(&self) -> bool {
        self.missing() == Some(0)
    }
}

impl Opening {
    /// A newer leg is there.
    fn move_to(&mut self, leg: Leg) {
        self.inbound.begin(leg.at);
        self.leg = Some(leg);
    }

    /// Reads on until `frame` is there, or the leg has ended. Without a leg it waits.
    async fn read(&mut self, stream: &Arc<Stream>, frame: &mut FirstFrame) -> Result<(), LegEnd> {
        let Some(leg) = &mut self.leg else {
            return std::future::pending().await;
        };
        let read = self.inbound.receive_first(stream, leg, frame).await;
        read.map_err(|end| stream.judge(leg.generation, end))
    }
}

impl Stream {
    /// Sends `bytes` ahead of all that its socket will give. To be called before [`Stream::proxy`].
    pub fn send_first(&self, bytes: Bytes) {
        self.change(|core| core.write(bytes));
        self.ready.notify_one();
    }

    /// Reads the first frame that comes back, of at most `limit` bytes; [`Stream::proxy_from`] goes on behind it. Nothing is
    /// sent meanwhile. Where the future is dropped, the stream is to be reset.
    ///
    /// # Errors
    /// Why the stream was reset.
    pub async fn first_frame<T: Frame>(
        self: &Arc<Self>,
        legs: &mut impl LegSource,
        limit: usize,
    ) -> Result<(T, Opening), ResetCode> {
        let mut opening = Opening::default();
        let mut frame = FirstFrame::new(limit);
        loop {
            tokio::select! {
                biased;
                () = self.settles() => break,
                () = self.streams.ended() => self.reset(ResetCode::SessionLost),
                leg = legs.next() => opening.move_to(leg),
                read = opening.read(self, &mut frame) => match read {
                    Ok(()) => match T::decode(&frame.bytes[PREFIX..]) {
                        Ok(frame) => return Ok((frame, opening)),
                        Err(error) => {
                            tracing::debug!(stream = self.id(), %error, "first frame");
                            self.reset(ResetCode::ProtocolViolation);
                        }
                    },
                    Err(end) => {
                        opening.leg = None;
                        if self.leg_ended(end) {
                            break;
                        }
                    }
                },
            }
        }
        let reset = self.reset_reason();
        Err(reset.map_or(ResetCode::ConnectionReset, |reset| reset.code()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_frame_takes_its_own_bytes_in_whatever_pieces_they_come() {
        for size in 1..12 {
            let mut frame = FirstFrame::new(5);
            let mut rest = Vec::new();
            for piece in b"\0\0\0\x05helloGET /".chunks(size) {
                let mut chunk = Bytes::from_static(piece);
                frame.take(&mut chunk).unwrap();
                rest.extend_from_slice(&chunk);
            }
            assert!(frame.is_complete());
            assert_eq!(frame.bytes[PREFIX..], *b"hello");
            assert_eq!(rest, b"GET /", "pieces of {size}");
        }
    }

    #[test]
    fn a_first_frame_that_is_too_long_is_refused_before_it_comes() {
        let mut frame = FirstFrame::new(5);
        let mut chunk = Bytes::from_static(b"\0\0\0\x06");
        assert_eq!(frame.take(&mut chunk), None);
        assert!(!frame.is_complete());
        let mut empty = FirstFrame::new(5);
        assert_eq!(empty.take(&mut Bytes::from_static(b"\0\0\0\0x")), Some(4));
        assert!(empty.is_complete());
    }
}
