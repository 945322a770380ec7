//! The role in a container's network namespace: connects to the container's own loopback and passes the connected
//! socket to the agent (SCM_RIGHTS, unix(7)). After that no byte passes through it.
//!
//! The helper listens on a socket in its own container, and the agent connects to it through `/proc/PID/root`. So no
//! folder of the host has to be one that the engine sees: engines from snap, services with `PrivateTmp` and logins with
//! pam_namespace(8) each have another `/tmp`, and root may not enter every home.
//!
//! - `connection`: the agent's side of a helper
//! - `role`: the helper process
//! - `message`: the messages between them
//! - `loopback`: connects to a port on loopback

mod connection;
mod loopback;
mod message;
mod role;

pub use self::{connection::HelperConnection, role::run};
pub(crate) use self::{connection::in_container, loopback::dial_loopback};

#[cfg(test)]
mod tests;
