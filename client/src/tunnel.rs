//! The session with the agent, what carries it, and what travels in it.

pub mod forwards;
pub mod listener;
pub mod paths;
pub mod pulse;
mod relay;
pub mod search;
pub mod session;
