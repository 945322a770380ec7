//! Verifies what a forward does to bytes: TCP streams with known content.
//!
//! What flows is a function of stream, direction and offset, so a byte that is lost, doubled, moved or changed is
//! found where it happened, and a SHA-256 of all of it is compared at the end. Both ends of every stream live in
//! this process and write into one [`Ledger`]: a reader that sees an end of data knows whether the writer had
//! reached its end, which no protocol could tell it. An early end looks like
//! success to any program, so it always is a violation; the scenario judges resets.
//!
//! # Layout
//! - `pattern`: the bytes. `header`: the first 48 of a connection, which say what it is for. Neither does I/O.
//! - `ledger`: what each side of each stream has sent, received and met.
//! - `flow`: sending and receiving, at the pace that was ordered. `server`, `client`: the two sides.
//! - `room`: the thread in a host's network on which a side runs.

mod client;
mod flow;
mod header;
mod ledger;
mod pattern;
mod room;
mod server;

pub use client::{Caller, Stream};
pub use header::Job;
pub use ledger::{End, Ledger, Orders, Pace, Side, Violation};
pub use room::Room;
pub use server::Server;

#[cfg(test)]
mod tests;
