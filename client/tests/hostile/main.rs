//! The client's session against a hostile agent: the host belongs to somebody else.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod host;
mod hostile;
mod newer;
#[path = "../../../common/tests/shared/random.rs"]
mod random;
