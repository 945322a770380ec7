//! Streams that outlive the connections that carry them.
//!
//! # Layout
//!
//! - [`core`]: one logical stream at one end: what was sent, received, delivered and acknowledged, and what a new
//!   attachment or the next process has to send again. No I/O, no clock; its parts are [`outbox`] and [`inbox`]
//! - [`pool`]: how much memory all outboxes of a session may hold
//! - [`socket`]: the local end of a stream, TCP or Unix
//! - [`stream`]: a stream at work: between its socket and whatever attachment there is, a file each way (`outward`,
//!   `inward`); [`leg`]: its QUIC stream on one
//! - [`blocks`]: how bytes travel on a leg; `packer`: which of them are deflated; `deflate`: doing it
//! - [`streams`]: all streams of a session at one end
//! - [`control`]: the control stream of an attachment: the tables, then progress and resets both ways; `news`: what waits
//!   to be told there
//!
//! # Who knows what, always
//!
//! acknowledged ≤ delivered ≤ received ≤ sent. An end forgets a stream when both directions are acknowledged, or when a
//! reset was heard by both. So whatever an end has forgotten is complete, and its peer may forget it too.

pub mod blocks;
pub mod control;
pub mod core;
mod deflate;
pub mod inbox;
mod inward;
pub mod leg;
mod news;
pub mod outbox;
mod outward;
mod packer;
pub mod pool;
pub mod socket;
pub mod stream;
pub mod streams;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
