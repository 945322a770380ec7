//! Jupyter: how it is started on our terms, how it is probed and waited for, and why there is none.

pub(crate) mod causes;
pub(crate) mod command;
pub(crate) mod output;
pub(crate) mod probe;
pub(crate) mod readiness;
#[cfg(test)]
mod start_tests;

pub(crate) use self::command::*;
