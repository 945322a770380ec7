//! The QUIC connection to the agent, and what travels on it.

pub mod connection;
pub mod forwards;
pub mod listener;
pub mod paths;
mod relay;
