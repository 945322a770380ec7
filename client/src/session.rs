//! A running session, from the login to its end. A command runs one with `run`; every other process finds it by its local
//! socket.
//!
//! # Layout
//!
//! - `run`: connects, starts the workload, opens the ports, and keeps all of it until it is stopped
//! - `workload`: asks the agent for the container, and follows its start
//! - `forwards`: the forwarded ports, an actor with add, remove and list; `ports`: which local port each gets
//! - `local_api`: reports the status to other processes of this user; `name`: names of sessions

pub(crate) mod forwards;
pub(crate) mod local_api;
pub(crate) mod name;
pub(crate) mod ports;
pub(crate) mod run;
mod workload;
