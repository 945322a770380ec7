//! How many descriptors this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the most that this process may give itself: each forwarded connection takes one, and the usual
/// soft limit of 1024 is there for programs that use select(2).
pub fn raise_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Fails only where the system forbids what it has just allowed; then the old limit stays.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}
