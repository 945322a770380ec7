//! Verifies the bytes that a forward carries: TCP streams with known content.
//!
//! The content is a function of stream, direction and offset, so a byte that is lost, duplicated, moved or changed is found
//! at its offset. At the end the SHA-256 of the whole content is compared. Both ends of every stream are in this process and
//! write to one [`Ledger`], so a reader that sees the end of data knows whether the writer has ended. To any other program,
//! an early end looks like success; here it is always a violation. Whether a reset is allowed depends on the scenario.
//!
//! # Layout
//! - `pattern`: the bytes. `header`: the first 48 bytes of a connection, which say what it is for. Neither does I/O.
//! - `ledger`: what each side of each stream has sent and received, and how it ended.
//! - `flow`: sending and receiving, at a given pace. `server`, `client`: the two sides.
//! - `net_thread`: a thread in a host's network namespace, on which a side runs.

mod client;
mod flow;
mod header;
mod ledger;
mod net_thread;
mod pattern;
mod server;

pub use client::{Caller, Stream};
pub use header::Job;
pub use ledger::{End, Ledger, Orders, Pace, Side, Violation};
pub use net_thread::NetThread;
pub use server::Server;

#[cfg(test)]
mod tests;
