//! Hosts, and the shells that run on them.
//!
//! # Layout
//!
//! - [`destination`]: what a user may write for a host, and what may not pass as one
//! - [`config`]: what ssh's own configuration says about a host; [`chain`]: the hosts on the way to it
//! - [`ssh`]: the connections to them, the only file that starts ssh; `command` makes its arguments
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
pub mod shell;
pub mod ssh;
mod stderr;

pub use destination::Destination;
pub use local::Local;
pub use shell::Shell;
pub use ssh::{Connection, SshHost, SshOptions};

use crate::error::Failure;

/// Hears what happens on the way, for the user. Every text may come from another machine; `notice` alone is given
/// text that is already safe to print.
pub trait Reporter: Send + Sync {
    /// A step has begun on `host`; it ends when that host's next begins, or when [`Reporter::done`] says so.
    fn step(&self, host: &str, text: &str);
    /// The step on `host` is done.
    fn done(&self, host: &str);
    /// The step on `host` has moved `done` of `total` bytes.
    fn progress(&self, host: &str, done: u64, total: u64);
    /// ssh said something that is no error: a banner, a security key that wants a touch. One line.
    fn notice(&self, text: &str);
    /// From `true` to the next `false`, ssh may be asking for something on the terminal: draw nothing there.
    fn prompting(&self, may_ask: bool);
}

/// A machine on which a shell can be had. Can be asked from several tasks at once.
pub trait RemoteHost: Send + Sync {
    /// The host as its user calls it, for messages.
    fn name(&self) -> &str;

    /// Starts `/bin/sh -s` there, with nobody's terminal. Returns as soon as the process on this machine runs: whether
    /// the host plays along is seen on the shell's output. Never asks the user anything.
    ///
    /// # Errors
    /// When no process can be started on this machine.
    fn shell(&self) -> Result<Shell, Failure>;
}
