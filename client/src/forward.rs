//! Forwarded ports: what `-L` means, and the listeners.

pub mod listener;
pub mod spec;
