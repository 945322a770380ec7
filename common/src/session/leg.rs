//! A leg: the QUIC stream that carries a stream on one attachment; and how it ends.

use quinn::{ReadError, RecvStream, SendStream, WriteError};

use super::{block::BadBlock, core::Violation};
use crate::protocol::stream::ResetCode;

/// A leg of a stream.
pub struct Leg {
    /// Generation of the attachment.
    pub generation: u64,
    /// To the peer.
    pub send: Sender,
    /// From the peer.
    pub receive: Receiver,
    /// Offset of the first byte that `receive` will deliver.
    pub at: u64,
}

/// Where a stream gets its legs from: one on each attachment. The client opens them, the agent accepts them.
pub trait LegSource {
    /// The next leg, on a newer attachment than the last one. Cancel safe.
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
#[derive(Clone, Copy)]
pub(super) enum LegEnd {
    /// The attachment is gone, or was replaced.
    Lost,
    /// The peer reset the leg, or stopped reading it.
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

/// The sending half of a leg. When dropped before [`finish`](Self::finish), it resets the QUIC stream: quinn itself would finish
/// it, and the peer would take what it has received for everything.
pub struct Sender {
    stream: SendStream,
    finished: bool,
}

impl Sender {
    /// Wraps `stream`.
    #[must_use]
    pub fn new(stream: SendStream) -> Self {
        Self {
            stream,
            finished: false,
        }
    }

    /// The QUIC stream.
    pub fn stream(&mut self) -> &mut SendStream {
        &mut self.stream
    }

    /// Sends the end.
    pub fn finish(&mut self) {
        // Fails only when the peer stopped the stream. The receiving half reports that.
        let _ = self.stream.finish();
        self.finished = true;
    }

    /// Resets the QUIC stream with `code`, unless it is finished.
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

/// The receiving half of a leg. When dropped before its end, it tells the peer that this leg is over; quinn itself would stop
/// it with code 0, which means that the stream is refused.
pub struct Receiver(RecvStream);

impl Receiver {
    /// Wraps `stream`.
    #[must_use]
    pub fn new(stream: RecvStream) -> Self {
        Self(stream)
    }

    /// The QUIC stream.
    pub fn stream(&mut self) -> &mut RecvStream {
        &mut self.0
    }

    /// Stops the QUIC stream with `code`.
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
