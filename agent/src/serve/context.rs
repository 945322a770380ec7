//! State that all sessions of the agent share.

use tokio_util::task::TaskTracker;

use super::{idle_shutdown::IdleShutdown, quiesce::Quiesce};
use crate::workload::Workloads;

/// What a session needs to work on its streams.
pub(super) struct Context {
    pub(super) workloads: Workloads,
    /// Starts of workloads; they continue when their client leaves.
    pub(super) work: TaskTracker,
    /// Paused for an upgrade: work that needs a workload's network waits for the successor.
    pub(super) quiesce: Quiesce,
    pub(super) idle: IdleShutdown,
}
