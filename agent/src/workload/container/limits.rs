//! The resource limits of a container.

use crate::engine::Limit;

/// Open files.
const NOFILE: u64 = 1 << 20;
/// Stack in bytes.
const STACK: u64 = 64 << 20;

/// Hard limits that bound the limits of a container.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HardLimits {
    /// The kernel's limit on open files.
    pub(crate) kernel_files: u64,
    /// This process's own limits, which a rootless engine of the same user has too; None is unlimited.
    pub(crate) own_files: Option<u64>,
    pub(crate) own_stack: Option<u64>,
    pub(crate) own_memlock: Option<u64>,
}

pub(crate) fn limits(rootless: bool, hard: HardLimits) -> Vec<Limit> {
    let bounded = |wanted: u64, own: Option<u64>| {
        let own = if rootless { own } else { None };
        wanted.min(own.unwrap_or(u64::MAX))
    };
    let mut limits = Vec::new();
    if !rootless || hard.own_memlock.is_none() {
        limits.push(limit("memlock", -1));
    }
    limits.push(limit("stack", saturate(bounded(STACK, hard.own_stack))));
    let files = bounded(NOFILE.min(hard.kernel_files.max(1024)), hard.own_files);
    limits.push(limit("nofile", saturate(files)));
    limits
}

fn limit(name: &'static str, value: i64) -> Limit {
    Limit {
        name,
        soft: value,
        hard: value,
    }
}

fn saturate(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl HardLimits {
    /// Reads the limits of this host and this process.
    pub(crate) fn read() -> Self {
        use rustix::process::{Resource, getrlimit};
        let kernel_files = std::fs::read_to_string("/proc/sys/fs/nr_open")
            .ok()
            .and_then(|text| text.trim().parse().ok());
        Self {
            kernel_files: kernel_files.unwrap_or(1 << 20),
            own_files: getrlimit(Resource::Nofile).maximum,
            own_stack: getrlimit(Resource::Stack).maximum,
            own_memlock: getrlimit(Resource::Memlock).maximum,
        }
    }
}

/// Removes the limits that the engine's message names by number (`rlimit type 8`), or all, and returns their names.
pub(crate) fn remove_refused(limits: &mut Vec<Limit>, why: &str) -> String {
    let number = why
        .split_once("rlimit type ")
        .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next());
    // Numbers of setrlimit(2) on Linux.
    let name = match number {
        Some("3") => "stack",
        Some("7") => "nofile",
        Some("8") => "memlock",
        _ => "",
    };
    let (refused, kept) = std::mem::take(limits)
        .into_iter()
        .partition(|limit| limit.name == name);
    let refused: Vec<Limit> = refused;
    let refused = if refused.is_empty() {
        kept
    } else {
        *limits = kept;
        refused
    };
    let names: Vec<&str> = refused.iter().map(|limit| limit.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_stay_within_those_of_the_host() {
        let own = HardLimits {
            kernel_files: 4096,
            own_files: Some(2000),
            own_stack: Some(8 << 20),
            own_memlock: Some(1 << 20),
        };
        let as_pairs = |limits: Vec<Limit>| {
            limits
                .into_iter()
                .map(|limit| (limit.name, limit.hard))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            as_pairs(limits(false, own)),
            [("memlock", -1), ("stack", 64 << 20), ("nofile", 4096)]
        );
        assert_eq!(
            as_pairs(limits(true, own)),
            [("stack", 8 << 20), ("nofile", 2000)]
        );
    }
}
