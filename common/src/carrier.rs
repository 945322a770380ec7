//! What QUIC packets travel by: UDP, UDP through relays, or a byte pipe.

pub mod pipe;
pub mod relay;
pub mod udp;
