//! The agent on a host: probe, upload, start. The host needs `sh`, `cat`, `mkdir`, `chmod`, `mv` and `uname`; `gzip` and
//! `sha256sum` are used where they exist.
//!
//! # Layout
//!
//! - `bundle`: the agent's binaries, built into the client or beside it
//! - `probe`: the first exchange: starts the agent if it is there, else reports where it could be put
//! - `install`: uploads to one folder, with a second attempt; `upload`: one attempt, verified before the file gets its name
//! - `start`: the whole sequence, then one message each way over the shell's stdin and stdout
//! - `script`: shell scripts with quoted values; `enter.sh`: what they begin with that work in a folder
//!
//! Scripts go to the standard input of the host's `/bin/sh`, never into its arguments. An agent's file name carries its
//! hash, and the file is renamed to it last: a file with that name is complete, and any number of clients can install at
//! once.

pub(crate) mod bundle;
mod install;
pub(crate) mod probe;
mod script;
pub(crate) mod start;
mod upload;

pub(crate) use self::{
    bundle::{Agent, Bundle},
    probe::{Role, Start},
    start::{Pipe, Prepared, prepare},
};
