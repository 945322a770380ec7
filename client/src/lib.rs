//! The part of jq on the laptop.
//!
//! # Layout
//!
//! - [`cli`]: the command line; [`settings`]: flags and environment as typed settings, the only reader of either
//! - [`commands`]: one verb a file
//! - [`output`]: the only printing; [`error`]: what a failure tells the user
//! - [`remote`]: hosts reached by ssh, or this machine; its folder is the only place that starts ssh
//! - [`bundle`]: the agent's binaries, built in or beside this one
//! - [`install`]: the agent on a host: probe, choose, upload, verify, rename
//! - [`launch`]: the agent's start, and the one message each way over SSH
//! - [`tunnel`]: the QUIC connection, its paths, and the listeners whose connections it carries
//! - [`beat`]: what is looked at once a second is looked at together
//! - [`notice`]: what makes a retry worth while now: a wake, another network, the user
//! - [`control`]: how other processes ask a running `connect` how it is
//! - [`state`]: what is remembered from one run to the next

pub mod beat;
pub mod bundle;
pub mod cli;
pub mod commands;
pub(crate) mod connection;
pub mod control;
pub mod error;
pub mod install;
pub mod launch;
pub mod memory;
pub mod notice;
pub mod output;
pub mod remote;
pub mod settings;
pub mod state;
#[cfg(test)]
mod testing;
pub mod tunnel;
