//! A real agent among clients that keep to no rule. Whatever they do, a client that does keep to them goes on beside them,
//! and the agent stays small.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod agent;
mod client;
mod frames;
mod handshakes;
mod newer;
mod sessions;
