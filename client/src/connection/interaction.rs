//! Whether ssh may ask the user.

/// Whether ssh may interact with the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interaction {
    /// ssh may ask questions on the terminal, and steps are reported.
    Attended,
    /// ssh runs in batch mode without the terminal, and nothing is reported. Where ssh would have to ask, the bootstrap
    /// fails with a failure for which [`Failure::needs_user`](crate::error::Failure::needs_user) holds.
    Background,
}
