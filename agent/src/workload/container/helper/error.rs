//! Errors of access to a container's network.

use std::io;

use crate::engine::EngineError;

/// There is no way into the container's network.
pub(super) fn not_connected(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, why)
}

/// The engine failed, so there is no way into the container's network.
pub(super) fn engine_failed(error: EngineError) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, error)
}
