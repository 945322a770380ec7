//! Jupyter: how it is started, where its page is, how it is asked, and how its absence shows.

pub(crate) mod command;
pub(crate) mod probe;
pub(crate) mod readiness;

pub(crate) use self::command::*;
