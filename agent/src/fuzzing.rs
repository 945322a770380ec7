//! Decoders of untrusted input that are otherwise private, for fuzzing targets.

use std::io;

use crate::{engine, serve};

/// Extracts the regular file from a tar that an engine returns for a path in a container; None when the tar holds
/// something else.
///
/// # Errors
/// When it is not a tar.
pub fn file_in_archive(tar: &[u8]) -> io::Result<Option<Vec<u8>>> {
    engine::unpack_file(tar)
}

/// Decodes the handover snapshot that another build of the agent wrote.
///
/// # Errors
/// When it is not a snapshot in this format.
pub fn handover_snapshot(mut written: &[u8]) -> io::Result<()> {
    serve::read_snapshot(&mut written)
}
