//! The agent on a host: is it there, which one fits, how it gets there, how it starts. Needs `sh`, `cat`, `mkdir`, `chmod`,
//! `mv` and `uname` on the host; uses gzip and sha256sum where they are.
//!
//! # Layout
//!
//! - [`bundle`]: the agent's binaries, built into this one or beside it
//! - [`probe`]: the first exchange: start the agent that is there, or say where one could be
//! - `install`: into which folder, and what is said when none takes it; `upload`: one agent into one folder, verified
//!   before it has its name
//! - [`start`]: the agent's start, and the one message each way over SSH
//!
//! The scripts are given to the host's `/bin/sh` on its standard input, never as arguments. An agent's file carries its
//! hash in its name and gets that name last, so that whatever has the name is whole, and any number of clients can
//! install at once.

pub mod bundle;
mod install;
pub mod probe;
mod script;
pub mod start;
mod upload;

pub use self::{
    bundle::{Agent, Bundle},
    probe::Role,
    start::{Pipe, Prepared, prepare},
};
