//! Streams that outlive the connections that carry them.
//!
//! # Layout
//!
//! - [`core`]: one logical stream at one end: what was sent, received, delivered and acknowledged, and what a new
//!   attachment or the next process has to send again. No I/O, no clock; its parts are [`send_buffer`] and [`recv_state`]
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
pub mod core;
pub mod leg;
pub mod opening;
mod recv;
pub mod recv_state;
mod send;
pub mod send_buffer;
pub mod socket;
pub mod stream;
pub mod streams;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
