//! The workload that a client asked for: found or started, with Jupyter in it if wanted, and reachable through
//! [`RunningWorkload`].
//!
//! Each of [`container`], [`process`], [`jupyter`] and [`gpu`] has what is known about it, how it is probed, and how it
//! is started. [`workloads`] chooses between container and process.

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
    running::{Connected, RunningWorkload, Started},
    workloads::Workloads,
};
