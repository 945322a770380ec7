//! The workload that a client asked for: found or made, with Jupyter in it, and a way into its network.
//!
//! Each of [`container`] and [`process`] holds what is known about it, how it is planned, and how it is started;
//! [`jupyter`] and [`gpu`] are what both have in them.

pub(crate) mod container;
mod events;
mod failure;
#[cfg(test)]
mod fixtures;
pub(crate) mod gpu;
mod host;
pub(crate) mod jupyter;
pub(crate) mod process;
mod running;
mod select_engine;
mod validate;
mod workloads;

pub(crate) use self::{
    events::EventSink,
    host::HostContext,
    running::{RunningWorkload, Started},
    workloads::Workloads,
};
