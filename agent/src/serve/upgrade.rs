//! An upgrade that was agreed to.

use std::{fs::File, path::PathBuf};

use tokio::net::UnixStream;

/// An upgrade that was agreed to.
pub struct Upgrade {
    /// The bootstrap that waits for the result.
    pub(super) requester: UnixStream,
    pub(super) successor: PathBuf,
    pub(super) run_dir: PathBuf,
    /// Format of the snapshot that the successor reads.
    pub(super) format: u32,
    pub(super) lock: File,
}
