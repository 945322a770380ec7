//! The client's session with an agent that keeps to no rule: the host is another's, and may be anybody's.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod host;
mod hostile;
mod newer;
