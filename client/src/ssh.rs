//! The user's own ssh: hosts, connections to them, and shells on them. No other room starts ssh.
//!
//! # Layout
//!
//! - `destination`: a host as the user writes it, validated; `config`: what `ssh -G` says about a host; `chain`: the jump
//!   hosts on the way to it; `proxy_command`: a ProxyCommand that is a jump in other words
//! - `connection`: a connection to each host of a chain; `host`: one of these, by a `master` of ours or by one that the user
//!   has opened; `command` builds ssh's arguments from `options`, `overruled` lists the settings that are not the user's,
//!   `socket` creates and removes the control sockets
//! - `shell`: a running `/bin/sh` on a host; `local`: the same on this machine, without ssh
//! - `log`: ssh's own messages; `stderr`: collects these and what others write to its standard error; `notes`: shows them
//!   to the user; `diagnose`: turns them into a failure with a hint
//!
//! ssh asks for passwords and codes on the controlling terminal by itself. This room never reads or writes the terminal.

pub(crate) mod chain;
mod command;
pub mod config;
mod connection;
pub(crate) mod destination;
mod diagnose;
mod host;
pub(crate) mod local;
mod log;
mod master;
mod notes;
mod options;
mod overruled;
mod proxy_command;
pub(crate) mod shell;
mod socket;
mod stderr;

pub(crate) use connection::{Connection, resolve};
pub use destination::Destination;
pub(crate) use host::SshHost;
pub(crate) use local::Local;
pub(crate) use options::SshOptions;
pub(crate) use shell::{RemoteHost, Shell};
