//! The role on the GPU host: lets clients in over QUIC and serves each until it leaves.

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

pub use self::{
    server::{Served, Server},
    upgrade::Upgrade,
};
