//! What a test needs from the machine. If a requirement is missing, these functions panic under `CI=true`. Otherwise
//! they print a line on stderr and return `false`, and the test returns early.

use std::path::Path;

use crate::environment;
use crate::lab::tools;

/// For tests that start a [`crate::lab::Lab`]: root, TUN devices and the programs that create hosts.
///
/// # Panics
/// When something is missing and `CI` is `true`.
pub fn lab() -> bool {
    met(lab_problem())
}

/// For tests of login shells: everything of [`lab`], and the shells.
///
/// # Panics
/// When something is missing and `CI` is `true`.
pub fn shells() -> bool {
    lab() && met(missing(&["zsh", "tcsh", "fish"]))
}

/// For tests whose lab has an engine: the requirements of [`lab`], and dockerd.
///
/// # Panics
/// When something is missing and `CI` is `true`.
pub fn docker() -> bool {
    met(lab_problem().or_else(|| missing(&["dockerd", "docker", "containerd", "runc", "debootstrap"])))
}

/// For tests whose lab has Podman: the requirements of [`docker`], whose images it gets, and Podman.
///
/// # Panics
/// When something is missing and `CI` is `true`.
pub fn podman() -> bool {
    docker() && met(missing(&["podman", "conmon", "catatonit"]))
}

/// For tests that open Jupyter in a browser: the requirements of [`docker`], and Chromium.
///
/// # Panics
/// When something is missing and `CI` is `true`.
pub fn browser() -> bool {
    docker() && met(missing(&["chromium"]))
}

/// For tests with a folder that root may not enter: everything of [`docker`], and FUSE.
///
/// # Panics
/// When something is missing and `CI` is `true`.
pub fn fuse() -> bool {
    let device = || {
        let is_there = Path::new("/dev/fuse").exists();
        (!is_there).then(|| "/dev/fuse is missing: the kernel has no FUSE".to_owned())
    };
    docker() && met(missing(&["bindfs", "fusermount"]).or_else(device))
}

fn lab_problem() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root is needed to create hosts (network namespaces, users)".into());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("/dev/net/tun is missing: the kernel has no TUN devices".into());
    }
    missing(&[
        "ip",
        "nsenter",
        "setpriv",
        "useradd",
        "ssh",
        "ssh-keygen",
        "sshd",
        "sysctl",
    ])
}

fn missing(programs: &[&str]) -> Option<String> {
    let absent: Vec<_> = programs
        .iter()
        .copied()
        .filter(|program| tools::find(program).is_none())
        .collect();
    (!absent.is_empty()).then(|| format!("not installed: {}", absent.join(", ")))
}

#[expect(
    clippy::print_stderr,
    reason = "a test that is skipped must say so in its output"
)]
fn met(problem: Option<String>) -> bool {
    let Some(problem) = problem else { return true };
    assert!(
        environment::var("CI").as_deref() != Some("true"),
        "cannot run in CI: {problem}"
    );
    eprintln!("NOT RUN: {problem}");
    false
}
