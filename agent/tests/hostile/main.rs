//! A real agent and clients that violate the protocol. They never affect a client that follows it, and the agent's
//! memory stays small.
#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

mod agent;
mod client;
mod frames;
mod handshakes;
mod newer;
#[path = "../../../common/tests/shared/random.rs"]
mod random;
mod sessions;
