//! Forwarded ports: `spec` parses `-L`, `listener` accepts connections on the loopback.

pub(crate) mod listener;
pub mod spec;
