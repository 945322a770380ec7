//! Which protocol this build speaks.

/// TLS ALPN of the protocol (RFC 7301): the generation of the handshake, and nothing else.
///
/// It changes when the session layer's first frames ([`Attach`](super::session::Attach) and its reply) can no longer be
/// read by an older peer, which is hardly ever: everything after them grows by
/// [capabilities](super::capabilities::Capabilities), by fields with defaults, and by messages that an older peer answers
/// with [`ResetCode::Unsupported`](super::stream::ResetCode::Unsupported).
pub const ALPN: &[u8] = b"jq/4";

/// Version of this build, as its users see it.
pub const BUILD: &str = if cfg!(feature = "older-peer") {
    "0.0.9"
} else {
    env!("CARGO_PKG_VERSION")
};
