//! Decoders of what comes from elsewhere, for fuzzing targets: the rest of the agent keeps them private.

use std::io;

use crate::{engine, netns_helper, serve};

/// The name of the socket in the folder that agent and helper share.
pub const HELPER_SOCKET: &str = netns_helper::SOCKET;

/// The plain file in a tar that an engine gives for a path in a container; none where the tar holds something else.
///
/// # Errors
/// When it is no tar.
pub fn file_in_archive(tar: &[u8]) -> io::Result<Option<Vec<u8>>> {
    engine::unpack_file(tar)
}

/// Reads what another build of the agent leaves to its successor in a memory file.
///
/// # Errors
/// When it is something else.
pub fn handover_snapshot(mut written: &[u8]) -> io::Result<()> {
    serve::read_snapshot(&mut written)
}
