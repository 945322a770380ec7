//! The client: the part of jq that runs on the laptop.
//!
//! # Rooms
//!
//! A room imports only from rooms below it.
//!
//! - [`commands`]: one file a command: settings and printer in, exit status out
//! - [`cli`], [`settings`]: flags; what flags and environment mean, as input of the rooms below
//! - `session`: what a running session owns: workload, forwards, the local API
//! - `connection`: paths to the agent, the race between them, the supervisor that keeps one
//! - [`resumable_session`]: streams, requests and subscriptions that outlive the connections that carry them
//! - `agent`: the agent on a host: bundle, probe, upload, start
//! - [`ssh`]: the user's own ssh: configuration, jump chain, masters, shells, diagnosis. Nothing else starts ssh
//! - [`forward`]: what `-L` means; listeners
//! - [`output`]: the only printing. The rooms report to it through `reporter`; `browser` opens Jupyter's page
//! - [`error`], `status`, `state`, `signals`, `ticker`: failures; how a session is; files that are kept; signals that end a
//!   command; one timer for all that looks once a second

mod agent;
mod browser;
pub mod cli;
pub mod commands;
mod connection;
pub mod error;
pub mod forward;
#[cfg(test)]
#[path = "../../common/tests/shared/golden.rs"]
#[allow(dead_code, reason = "the tests of the frames use the rest")]
mod golden;
#[cfg(test)]
#[path = "../../common/tests/shared/not_run.rs"]
mod not_run;
pub mod output;
mod reporter;
pub mod resumable_session;
mod session;
pub mod settings;
mod signals;
pub mod ssh;
mod state;
mod status;
mod ticker;
