//! The client's session with a hostile agent: the host may belong to another person.
#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

mod host;
mod hostile;
mod newer;
#[path = "../../../common/tests/shared/random.rs"]
mod random;
