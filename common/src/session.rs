//! Streams that outlive the connections that carry them.
//!
//! # Layout
//!
//! Each file uses only those above it.
//!
//! - [`core`]: the state machine of one stream, without I/O and without a clock: a crate of its own, `jq-session-core`
//! - [`block`]: how bytes travel on a leg, its encoder and decoder; [`leg`]: the QUIC stream that carries a stream on one
//!   attachment; [`socket`]: the local end of a stream, TCP or Unix
//! - [`buffer_budget`]: memory that all send buffers of a session may take
//! - `control_queue`: frames for the control stream; `context`: that, the budget and the counters, shared by all streams
//! - [`stream`]: a stream's state, and who is woken when it changes
//! - `send`, `recv`: the two directions between socket and leg; `first_frame`, [`opening`]: what this end itself reads or
//!   sends before there is a socket; `proxy`: both directions, on one leg after another
//! - [`streams`]: the registry, which alone owns the streams; [`offers`]: a leg on each connection, for the end that opens
//!   streams
//! - [`control`]: the control stream of an attachment: the tables, then acknowledgements and resets in both directions
//!
//! # Invariants
//!
//! acknowledged ≤ delivered ≤ received ≤ sent. An end forgets a stream when both directions are acknowledged, or when a reset
//! was received and acknowledged. So a stream that one end has forgotten is complete, and the peer may forget it too.

pub mod block;
pub mod buffer_budget;
mod context;
pub mod control;
mod control_queue;
mod first_frame;
pub mod leg;
pub mod offers;
pub mod opening;
mod proxy;
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
