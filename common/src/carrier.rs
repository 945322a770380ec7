//! How a QUIC packet travels when it does not go straight to the agent.

pub mod relay;
