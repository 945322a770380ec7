//! Hands over sockets, certificate and sessions to a successor, so that no stream breaks: to another build, which this
//! process executes (execve(2)), or to a process of the same build that a newer login has started.
//!
//! It can be refused until the streams stop, and a refusal changes nothing. After that the successor restores everything from
//! a snapshot. If the system cannot execute the successor, or the other process cannot read the snapshot, this program
//! restores itself from the same snapshot.

mod execute;
mod freeze;
pub(super) mod header;
mod pass;
pub(super) mod prepare;
mod reaper;
mod snapshot;

#[cfg(feature = "fuzzing")]
pub(crate) use self::snapshot::read as read_snapshot;
pub(super) use self::{
    execute::{execute_successor, receive_snapshot, reply},
    freeze::{Descriptors, freeze_sessions},
    header::Header,
    pass::{pass_to, take_from},
    reaper::{inherited_children, reap},
    snapshot::Snapshot,
};
