//! The product as a user runs it: its binaries, and `jq-client connect` as a process.

mod client;
mod events;

use std::path::{Path, PathBuf};

pub use self::{
    client::Client,
    events::{Container, Failure, Forwarded, Ready},
};
use crate::environment;

/// The client's binary: `JQ_TEST_CLIENT`, otherwise the one that `deploy/build` built.
///
/// # Panics
/// When it does not exist.
#[must_use]
pub fn client_binary() -> PathBuf {
    built("JQ_TEST_CLIENT", "release/jq-client")
}

/// The static agent for this machine: `JQ_TEST_AGENT`, otherwise the one that `deploy/build` built.
///
/// # Panics
/// When it does not exist.
#[must_use]
pub fn agent_binary() -> PathBuf {
    built("JQ_TEST_AGENT", "agents/jq-agent-x86_64")
}

fn built(variable: &str, name: &str) -> PathBuf {
    let path = environment::var(variable).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(name),
        PathBuf::from,
    );
    assert!(path.exists(), "{} is not built: run deploy/build", path.display());
    path
}
