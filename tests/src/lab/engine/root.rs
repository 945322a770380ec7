//! Root directories with the programs of other Debian suites. They are made once by debootstrap and kept in the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::super::{hash, place, tools};

/// What the engines need, with their command lines.
const PACKAGES: &str = "aardvark-dns,catatonit,conmon,crun,docker-cli,docker.io,fuse-overlayfs,iproute2,iptables,netavark,nftables,\
                        passt,podman,procps,rootlesskit,runc,slirp4netns,uidmap";

/// The root directory of a suite. The first call makes it, which takes minutes and needs Debian's package servers. The caller
/// holds the engine lock, so nobody else makes it at the same time.
pub(super) fn of(suite: &str) -> Result<PathBuf> {
    let roots = place::cache().join("roots");
    let root = roots.join(format!("{suite}-{}", hash::short([suite, PACKAGES])));
    if !root.exists() {
        fs::create_dir_all(&roots).with_context(|| format!("cannot make {}", roots.display()))?;
        remove_others(&roots, suite)?;
        make(suite, &root)?;
    }
    Ok(root)
}

/// Removes the roots of this suite that were made from other packages, and incomplete ones.
fn remove_others(roots: &Path, suite: &str) -> Result<()> {
    for entry in fs::read_dir(roots).context("cannot list the roots")?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(suite) {
            fs::remove_dir_all(entry.path()).context("cannot remove an older root")?;
        }
    }
    Ok(())
}

#[expect(
    clippy::print_stderr,
    reason = "minutes without output would look like a hang"
)]
fn make(suite: &str, root: &Path) -> Result<()> {
    let log = place::cache().join(format!("root-{suite}.log"));
    eprintln!("making a Debian {suite} (once; see {})", log.display());
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    // A root with its final name is complete.
    let draft = root.with_extension("new");
    // Below everything else on this machine: it has time.
    let mut command = tools::command(
        "nice",
        ["chrt", "--idle", "0", "debootstrap", "--variant=minbase"],
    );
    command
        .arg(format!("--include={PACKAGES}"))
        .arg(suite)
        .arg(&draft);
    command
        .stdin(Stdio::null())
        .stderr(output.try_clone().context("cannot share the log")?)
        .stdout(output);
    let status = command.status().context("cannot start debootstrap")?;
    ensure!(
        status.success(),
        "debootstrap {suite} failed ({status}): see {}",
        log.display()
    );
    fs::rename(&draft, root).with_context(|| format!("cannot put {} in place", root.display()))
}
