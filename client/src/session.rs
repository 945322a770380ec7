//! What a session owns: its streams, the workload on the host, the forwarded ports, and the local API by which other
//! processes find it.
//!
//! # Layout
//!
//! - [`core`]: streams and requests that outlive the connections that carry them
//! - [`workload`]: the request that starts the container, and what is heard of it
//! - [`forwards`]: the listeners on this machine
//! - [`subscriptions`]: what the agent tells of things that change
//! - [`local_api`]: how other processes of this user ask how the session is

pub mod core;
pub mod forwards;
pub mod local_api;
pub mod subscriptions;
pub mod workload;

pub use self::core::{
    AttachError, Attached, Connected, ControlStream, Detached, Events, Installed, RequestError, Session,
};
