//! What a peer can do wrong.

/// The peer violated the protocol. Only the stream concerned is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An offset contradicts what was sent or received.
    #[error("an offset contradicts what was sent or received")]
    Offset,
    /// The peer has forgotten a stream that is not complete.
    #[error("the peer has forgotten a stream that is not complete")]
    Forgotten,
}
