//! GPUs: which ones a host or container has, what was requested, and how an engine is asked for them.

pub(crate) mod detect;
pub(crate) mod devices;
pub(crate) mod request;

pub(crate) use self::{
    devices::{Gpu, HostGpus, lines, missing},
    request::{GpuPlan, choose, plan, refused},
};
