//! Jupyter: its command line, how it is probed, and how its start is waited for.

pub(crate) mod command;
pub(crate) mod probe;
pub(crate) mod readiness;

pub(crate) use self::command::*;
