//! The user's own ssh, and the shells that it opens on hosts. Nothing outside of this folder starts ssh.
//!
//! # Layout
//!
//! - [`destination`]: what a user may write for a host, and what may not pass as one
//! - [`config`]: what ssh's own configuration says about a host; [`chain`]: the hosts on the way to it
//! - [`master`]: the connections to them, the only file that starts ssh; `command` makes its
//!   arguments from [`SshOptions`], `socket` has its control sockets
//! - [`local`]: this machine, without ssh
//! - [`shell`]: a running `/bin/sh`; `stderr` collects what it and ssh complain about, [`diagnose`] makes a failure of it
//!
//! ssh asks for passwords and codes on the controlling terminal by itself. This folder never touches that terminal.

pub mod chain;
mod command;
pub mod config;
pub mod destination;
pub mod diagnose;
pub mod local;
pub mod master;
mod options;
pub mod shell;
mod socket;
mod stderr;

pub use destination::Destination;
pub use local::Local;
pub use master::{Connection, SshHost};
pub use options::SshOptions;
pub use shell::{RemoteHost, Shell};
