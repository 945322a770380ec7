//! The state machine of one logical stream at one end of a session.
//!
//! Sans-I/O: the caller reports events and polls for actions. No socket, no task and no clock, which `no_std` enforces, so
//! that a model can drive it through every order of events (`common/tests/session_model`).
//!
//! # Layout
//!
//! - [`StreamCore`]: both directions of a stream, resets, and what a new attachment has to send again;
//!   [`StreamSnapshot`]: its state for a successor process
//! - [`send_buffer`]: the sending direction: unacknowledged bytes, which are also the send window
//! - [`recv_state`]: the receiving direction: offsets received and delivered
//! - [`StreamId`], [`Entry`], [`StreamAck`]: what the two ends tell each other about a stream
//!
//! # Invariants
//!
//! acknowledged ≤ delivered ≤ received ≤ sent. A reset is final. Input of an attachment other than the current one changes
//! nothing. No input of the peer panics.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod recv_state;
pub mod send_buffer;
mod snapshot;
mod stream;
mod violation;
mod wire;

pub use self::{
    snapshot::StreamSnapshot,
    stream::{Reset, Resumption, StreamCore},
    violation::Violation,
    wire::{Entry, StreamAck, StreamId},
};
