//! The role in a container's network namespace: dials the container's own loopback and hands the connected socket to
//! the agent (SCM_RIGHTS, unix(7)). After that no byte passes through it.
//!
//! - `connection`: the agent's side of a helper
//! - `role`: the helper's own process
//! - `message`: what both say
//! - `loopback`: how a port is dialled

mod connection;
mod loopback;
mod message;
mod role;

pub(crate) use self::loopback::dial_loopback;
#[cfg(test)]
pub(crate) use self::message::SOCKET;
pub use self::{
    connection::{HelperConnection, HelperListener},
    role::run,
};

#[cfg(test)]
mod tests;
