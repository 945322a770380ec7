//! What the sessions of an agent share.

use tokio_util::task::TaskTracker;

use super::{idle_shutdown::IdleShutdown, quiesce::Quiesce};
use crate::workload::Workloads;

/// What a session needs for the work of its streams.
pub(super) struct Context {
    pub(super) workloads: Workloads,
    /// Work on workloads, which a client that leaves does not stop.
    pub(super) work: TaskTracker,
    /// Closed while an upgrade is near: what needs a workload's network waits for the successor.
    pub(super) quiesce: Quiesce,
    pub(super) idle: IdleShutdown,
}
