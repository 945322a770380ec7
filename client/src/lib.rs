//! The part of jq on the laptop.
//!
//! # Layout
//!
//! - [`cli`]: the command line; [`settings`]: flags and environment as typed settings, the only reader of either
//! - [`commands`]: one verb a file: settings and printer in, an end out
//! - [`session`]: what a running session owns: streams, workload, forwards, local API
//! - [`connection`]: paths to the agent, the race between them, a connection kept
//! - [`agent`]: the agent on a host: bundle, probe, upload, start
//! - [`ssh`]: the user's own ssh; nothing outside of that folder starts it
//! - [`forward`]: what `-L` means, and listeners
//! - [`output`]: the only printing; [`reporter`]: how the rooms tell it of steps; [`browser`]: opens the page
//! - [`error`]: what a failure tells the user; [`status`]: how a session is
//! - [`state`]: files that are kept from one run to the next
//! - [`ticker`]: what is looked at once a second is looked at together

pub mod agent;
pub mod browser;
pub mod cli;
pub mod commands;
pub mod connection;
pub mod error;
pub mod forward;
pub mod output;
pub mod reporter;
pub mod session;
pub mod settings;
pub mod ssh;
pub mod state;
pub mod status;
#[cfg(test)]
mod testing;
pub mod ticker;
