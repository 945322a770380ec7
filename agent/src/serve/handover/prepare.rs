//! Checks whether this agent can hand over to another build or process. A refusal changes nothing.

use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use jq_common::{
    bootstrap::{FormatRange, HandOverRequest, UpgradeRequest},
    protocol::version::{ALPN, BUILD},
};
use tokio::time::timeout;

use crate::{
    bootstrap::contract::{DRAIN, SNAPSHOT_FORMATS, VERSION_CHECK},
    host_program,
    run_blocking::run_blocking,
    rundir::RunDir,
    serve::{shared::Shared, stage::within, upgrade::Successor},
};

/// What was agreed on.
pub(crate) struct Prepared {
    /// Format of the snapshot.
    pub(crate) format: u32,
    pub(crate) successor: Successor,
}

/// Prepares an upgrade to another build while the streams continue.
///
/// # Errors
/// The reason for a refusal, in one line. Nothing has changed then.
pub(crate) async fn upgrade(request: UpgradeRequest, shared: &Shared) -> Result<Prepared, String> {
    if shared.upgrade_failed.load(Ordering::Relaxed) {
        return Err("an upgrade has failed before".to_owned());
    }
    let request = Arc::new(request);
    let checked = request.clone();
    // The folder may be on a slow network file system.
    let format = run_blocking(move || check(&checked)).await?;
    runs(&request.successor).await?;
    let run_dir = request.run_dir.clone();
    let lock = run_blocking(move || RunDir::at(run_dir).and_then(|folder| folder.lock())).await;
    let lock = lock
        .map_err(|error| format!("{}: {error}", request.run_dir.display()))?
        .ok_or("the successor runs already")?;
    quiesce(shared).await?;
    Ok(Prepared {
        format,
        successor: Successor::Program {
            file: request.successor.clone(),
            run_dir: request.run_dir.clone(),
            lock,
        },
    })
}

/// Prepares to hand over to another process of this build while the streams continue.
///
/// # Errors
/// As [`upgrade`].
pub(crate) async fn hand_over(request: &HandOverRequest, shared: &Shared) -> Result<Prepared, String> {
    let format = shared_format(&request.handshake, request.formats)?;
    quiesce(shared).await?;
    Ok(Prepared {
        format,
        successor: Successor::Process,
    })
}

/// Lets what a successor cannot take over in progress come to its end, and starts no more of it.
async fn quiesce(shared: &Shared) -> Result<(), String> {
    if !shared.context.quiesce.start() {
        return Err("an upgrade is under way".to_owned());
    }
    if timeout(DRAIN, shared.context.quiesce.drained()).await.is_err() {
        shared.context.quiesce.resume();
        return Err("a workload is being started".to_owned());
    }
    within("helpers", shared.context.workloads.shutdown()).await;
    Ok(())
}

/// The format of the snapshot that the successor is to be left.
fn check(request: &UpgradeRequest) -> Result<u32, String> {
    let version = |text: &str| parse_version(text).ok_or_else(|| format!("`{text}` is no version"));
    if version(&request.version)? < version(BUILD)? {
        return Err(format!("this agent's version {BUILD} is newer"));
    }
    let format = shared_format(&request.handshake, request.formats)?;
    let file = std::fs::metadata(&request.successor);
    let file = file.map_err(|error| format!("{}: {error}", request.successor.display()))?;
    let own = rustix::process::geteuid().as_raw();
    if !file.is_file() || file.uid() != own || file.mode() & 0o022 != 0 || file.mode() & 0o100 == 0 {
        let path = request.successor.display();
        return Err(format!("{path} is not a program that only its user may change"));
    }
    Ok(format)
}

fn shared_format(handshake: &str, formats: FormatRange) -> Result<u32, String> {
    if handshake.as_bytes() != ALPN {
        return Err("its clients would not understand the successor".to_owned());
    }
    let format = SNAPSHOT_FORMATS.newest_shared(formats);
    format.ok_or_else(|| "the successor would not understand what this agent leaves".to_owned())
}

/// Checks that the program runs here: built for this machine, complete, and not on a file system mounted noexec.
async fn runs(program: &Path) -> Result<(), String> {
    match host_program::output(program, &["--version"], VERSION_CHECK).await {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{}: {}", program.display(), output.status)),
        Err(error) => Err(format!("{}: {error}", program.display())),
    }
}

/// Parses a version into its numbers and whether it is a release, so that the results compare as the versions do
/// (Semantic Versioning 2.0.0, section 11). Pre-releases of the same version count as equal.
fn parse_version(text: &str) -> Option<([u64; 3], bool)> {
    let text = text.split('+').next()?;
    let (numbers, release) = match text.split_once('-') {
        Some((numbers, _)) => (numbers, false),
        None => (text, true),
    };
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    let version = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some((version, release))
}

#[cfg(test)]
mod tests;
