//! Asynchronous waiting for a file descriptor.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers a non-blocking descriptor with tokio, for reading.
#[expect(
    deprecated,
    reason = "its successor is unsafe because a descriptor may be closed too early; an `OwnedFd` is not"
)]
pub(super) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}
