//! Waiting for a descriptor.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Has tokio wait for bytes at a descriptor that does not block.
#[expect(
    deprecated,
    reason = "its successor is unsafe, since a descriptor may be closed too early; one that is owned is not"
)]
pub(super) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}
