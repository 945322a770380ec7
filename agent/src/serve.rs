//! The role on the GPU host: admits clients over QUIC and serves each of them until it leaves.

mod accept;
mod attachment;
mod context;
mod control;
mod dialer;
mod handover;
mod idle_shutdown;
mod pausable_socket;
mod quiesce;
mod server;
mod session;
mod sessions;
mod shared;
mod stage;
mod subscriptions;
mod upgrade;

#[cfg(feature = "fuzzing")]
pub(crate) use self::handover::read_snapshot;
pub use self::{
    server::{Served, Server},
    upgrade::Upgrade,
};
