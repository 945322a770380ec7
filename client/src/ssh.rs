//! The user's own ssh: hosts, connections to them, and shells on them. No other room starts ssh.
//!
//! # Layout
//!
//! - `destination`: a host as the user writes it, validated; `config`: what `ssh -G` says about a host; `chain`: the jump
//!   hosts on the way to it
//! - `master`: one ControlMaster connection for each host of a chain; `command` builds ssh's arguments from `options`,
//!   `socket` creates and removes the control sockets
//! - `shell`: a running `/bin/sh` on a host; `local`: the same on this machine, without ssh
//! - `stderr`: collects what ssh and the shell write there; `diagnose`: turns that into a failure with a hint
//!
//! ssh asks for passwords and codes on the controlling terminal by itself. This room never reads or writes the terminal.

pub(crate) mod chain;
mod command;
pub mod config;
pub(crate) mod destination;
pub(crate) mod diagnose;
pub(crate) mod local;
pub(crate) mod master;
mod options;
pub(crate) mod shell;
mod socket;
mod stderr;

pub use destination::Destination;
pub(crate) use local::Local;
pub(crate) use master::{Connection, SshHost, resolve};
pub(crate) use options::SshOptions;
pub(crate) use shell::{RemoteHost, Shell};
