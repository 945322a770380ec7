//! Workloads in containers: which container is ours, what a new one looks like, and how it is created and started.
//! `plan` (pure) compares the request with what exists; `run` carries the plan out.

pub(crate) mod entry_point;
pub(crate) mod etc_passwd;
#[cfg(test)]
pub(crate) mod fake_engine;
pub(crate) mod files;
pub(crate) mod helper;
pub(crate) mod host_network;
pub(crate) mod injected_user;
pub(crate) mod limits;
pub(crate) mod masks;
pub(crate) mod options;
pub(crate) mod ownership;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod user;
pub(crate) mod volumes;
