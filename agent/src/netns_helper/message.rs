//! What the agent and a helper say to each other.
//!
//! Requests and replies have a fixed length, so a byte stream carries them: a request is an id and a port, a reply an
//! id and an errno, with the socket attached when that is 0.

/// The socket's name in the folder that agent and helper share.
pub(crate) const SOCKET: &str = "inside.sock";

/// Bytes of a request (id, port, two unused) and of a reply (id, errno).
pub(super) const MESSAGE: usize = 8;
