//! Which protocol this build speaks.

/// TLS ALPN of the protocol (RFC 7301). The number changes with every change that an older peer cannot read, so that
/// two builds that do not fit refuse each other in the handshake instead of misreading frames.
pub const ALPN: &[u8] = b"jq/3";

/// Version of this build, as its users see it.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");
