//! A running session, from the login to its end. A command runs one with `run`; every other process finds it by its local
//! socket.
//!
//! # Layout
//!
//! - `core`: streams and requests that outlive the connections that carry them. The rest of this room builds on it; so does
//!   `connection`
//! - `subscriptions`: what the agent tells of things that change; uses nothing of this room
//! - `run`: connects, starts the workload, opens the ports, and keeps all of it until it is stopped
//! - `workload`: asks the agent for the container, and follows its start
//! - `forwards`: the forwarded ports, an actor with add, remove and list; `ports`: which local port each gets
//! - `local_api`: reports the status to other processes of this user; `name`: names of sessions

pub(crate) mod core;
pub(crate) mod forwards;
pub(crate) mod local_api;
pub(crate) mod name;
pub(crate) mod ports;
pub(crate) mod run;
pub(crate) mod subscriptions;
mod workload;

pub use self::{
    core::{AttachError, Attached, Connected, ControlStream, Detached, Installed, Session},
    subscriptions::Subscriptions,
};
