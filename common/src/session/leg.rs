//! One QUIC stream that carries a stream on one attachment, and how it ends.

use quinn::{ReadError, RecvStream, SendStream, WriteError};

use super::{block::BadBlock, core::Violation};
use crate::protocol::stream::ResetCode;

/// A QUIC stream for a stream.
pub struct Leg {
    /// The attachment's.
    pub generation: u64,
    /// To the peer.
    pub send: Sender,
    /// From the peer.
    pub receive: Receiver,
    /// Offset of the first byte that `receive` will give.
    pub at: u64,
}

/// Where a stream gets its legs from, one for each attachment.
pub trait LegSource {
    /// The next leg, on an attachment that is newer than that of the last one. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Leg> + Send;
}

/// What the peer did wrong on a leg.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum LegViolation {
    #[error(transparent)]
    Stream(#[from] Violation),
    #[error(transparent)]
    Block(#[from] BadBlock),
}

/// How a leg ended.
pub(super) enum LegEnd {
    /// The attachment is gone, or a newer one is there.
    Lost,
    /// The peer refuses this very leg.
    Refused(ResetCode),
    /// The peer violated the protocol.
    Violation(LegViolation),
    /// The local socket broke.
    Socket,
}

impl From<WriteError> for LegEnd {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Refused(ResetCode::from_wire(code.into_inner())),
            _ => Self::Lost,
        }
    }
}

impl From<ReadError> for LegEnd {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Refused(ResetCode::from_wire(code.into_inner())),
            _ => Self::Lost,
        }
    }
}

/// The sending half of a QUIC stream. Dropped before [`finish`](Self::finish), it resets the stream: quinn by itself would
/// end it cleanly, and the peer would take what came so far for everything.
pub struct Sender {
    stream: SendStream,
    finished: bool,
}

impl Sender {
    /// Takes over `stream`.
    #[must_use]
    pub fn new(stream: SendStream) -> Self {
        Self {
            stream,
            finished: false,
        }
    }

    /// The stream, to write to.
    pub fn stream(&mut self) -> &mut SendStream {
        &mut self.stream
    }

    /// Ends the data.
    pub fn finish(&mut self) {
        // Fails only when the peer stopped the stream, and then the receiving half reports it.
        let _ = self.stream.finish();
        self.finished = true;
    }

    /// Gives the stream up with `code`.
    pub fn reset(&mut self, code: ResetCode) {
        if !self.finished {
            // Fails only when the stream is closed already.
            let _ = self.stream.reset(code.to_wire());
            self.finished = true;
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.reset(ResetCode::ShuttingDown);
    }
}

/// The receiving half of a QUIC stream. Dropped before its end, it tells the peer that this leg is over, and not that the
/// stream is refused, as quinn by itself would.
pub struct Receiver(RecvStream);

impl Receiver {
    /// Takes over `stream`.
    #[must_use]
    pub fn new(stream: RecvStream) -> Self {
        Self(stream)
    }

    /// The stream, to read from.
    pub fn stream(&mut self) -> &mut RecvStream {
        &mut self.0
    }

    /// Refuses what comes, with `code`.
    pub(crate) fn stop(&mut self, code: ResetCode) {
        // Fails only when the stream has ended already.
        let _ = self.0.stop(code.to_wire());
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop(ResetCode::ShuttingDown);
    }
}
