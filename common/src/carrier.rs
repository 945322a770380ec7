//! How QUIC packets travel: over UDP, by way of relays, or over a byte pipe.

pub mod pipe;
pub mod relay;
pub mod udp;
