//! A real agent among clients that violate the protocol. Whatever they do, a client that follows it is not affected,
//! and the agent's memory stays small.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod agent;
mod client;
mod frames;
mod handshakes;
mod newer;
#[path = "../../../common/tests/shared/random.rs"]
mod random;
mod sessions;
