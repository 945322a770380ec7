//! The client's session with a hostile agent, because the host may belong to somebody else.
#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

mod host;
mod hostile;
mod newer;
