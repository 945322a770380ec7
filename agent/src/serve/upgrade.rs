//! An upgrade that was agreed to.

use std::{fs::File, path::PathBuf};

use tokio::net::UnixStream;

/// An upgrade that was agreed to.
pub struct Upgrade {
    /// Who waits for the result: a bootstrap, or the successor itself.
    pub(super) requester: UnixStream,
    /// Format of the snapshot that the successor reads.
    pub(super) format: u32,
    pub(super) successor: Successor,
}

/// What takes over.
pub(crate) enum Successor {
    /// Another build, which this process executes.
    Program {
        file: PathBuf,
        run_dir: PathBuf,
        lock: File,
    },
    /// The requester: a process of the same build, which a newer login has started.
    Process,
}
