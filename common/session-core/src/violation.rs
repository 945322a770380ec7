//! What a peer can do wrong.

/// The peer violated the protocol. Only the stream concerned is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An offset that does not fit what was sent or received.
    #[error("an offset that does not fit")]
    Offset,
    /// The peer has forgotten a stream that is not complete.
    #[error("the other end has forgotten it")]
    Forgotten,
}
