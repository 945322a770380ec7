//! Streams that outlive the connections that carry them.
//!
//! # Layout
//!
//! - [`core`]: the state machine of one stream, without I/O and without a clock: a crate of its own, `jq-session-core`
//! - [`buffer_budget`]: how much memory all send buffers of a session may hold
//! - [`socket`]: the local end of a stream, TCP or Unix
//! - [`stream`]: a stream at work: between its socket and whatever attachment there is, a file each way (`send`,
//!   `recv`); [`leg`]: its QUIC stream on one
//! - [`block`]: how bytes travel on a leg, its encoder and decoder
//! - [`streams`]: all streams of a session at one end
//! - [`control`]: the control stream of an attachment: the tables, then acknowledgements and resets both ways;
//!   `control_queue`: what waits to be told there
//!
//! # Who knows what, always
//!
//! acknowledged ≤ delivered ≤ received ≤ sent. An end forgets a stream when both directions are acknowledged, or when a
//! reset was heard by both. So whatever an end has forgotten is complete, and its peer may forget it too.

pub mod block;
pub mod buffer_budget;
pub mod control;
mod control_queue;
pub mod leg;
mod recv;
mod send;
pub mod socket;
pub mod stream;
pub mod streams;

/// The state machine of one stream.
pub use jq_session_core as core;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
