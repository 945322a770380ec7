//! GPUs: what the host has, what was asked for, what the engine can give.

pub(crate) mod detect;
pub(crate) mod devices;
pub(crate) mod request;

pub(crate) use self::{
    devices::{Gpu, HostGpus, lines, missing},
    request::{GpuPlan, choose, plan, refused},
};
