//! The role in a container's network namespace: connects to the container's own loopback and passes the connected
//! socket to the agent (SCM_RIGHTS, unix(7)). After that no byte passes through it.
//!
//! - `connection`: the agent's side of a helper
//! - `role`: the helper process
//! - `message`: the messages between them
//! - `loopback`: connects to a port on loopback

mod connection;
mod loopback;
mod message;
mod role;

pub(crate) use self::loopback::dial_loopback;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::message::SOCKET;
pub use self::{
    connection::{HelperConnection, HelperListener},
    role::run,
};

#[cfg(test)]
mod tests;
