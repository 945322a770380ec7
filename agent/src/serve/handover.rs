//! Upgrades the agent to another build in place: this process executes the new binary (execve(2)) and hands over its
//! sockets, certificate and sessions, so that no stream breaks.
//!
//! An upgrade can be refused until the streams stop, and a refusal changes nothing. After that the successor restores
//! everything from a snapshot. If the system cannot execute the successor, this program restores itself from the same
//! snapshot.

mod execute;
pub(super) mod header;
mod prepare;
mod reaper;
mod snapshot;

#[cfg(feature = "fuzzing")]
pub(crate) use self::snapshot::read as read_snapshot;
pub(super) use self::{
    execute::{Descriptors, execute_successor, freeze_sessions, receive_snapshot, reply},
    header::Header,
    prepare::prepare,
    reaper::{inherited_children, reap},
    snapshot::Snapshot,
};
