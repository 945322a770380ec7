//! Making way for another build of the agent, which goes on in this very process (execve(2)): with its sockets, its
//! certificate and its sessions, so that no stream notices.
//!
//! What comes before the streams stop may be refused and changes nothing. Afterwards the successor restores everything
//! from a [`snapshot`]; and where the system does not start it, this program does so itself, in the same way.

mod execute;
pub(super) mod header;
mod prepare;
mod reaper;
mod snapshot;

pub(super) use self::{
    execute::{Rest, answer, become_successor, close, inherit},
    header::Header,
    prepare::prepare,
    reaper::{children, reap},
    snapshot::Snapshot,
};
