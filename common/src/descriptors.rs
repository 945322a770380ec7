//! The limit on open descriptors of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard limit: each forwarded connection takes a descriptor, and the usual soft limit of 1024
/// exists for programs that use select(2).
pub fn raise_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // On failure the old limit stays.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}
