//! Decides whether this agent makes way for another build. A refusal changes nothing.

use std::{fs::File, os::unix::fs::MetadataExt, path::Path, sync::atomic::Ordering};

use jq_common::{
    bootstrap::UpgradeRequest,
    protocol::version::{ALPN, BUILD},
};
use tokio::{net::UnixStream, time::timeout};

use crate::{
    bootstrap::contract::{DRAIN, SNAPSHOT_FORMATS, VERSION_CHECK},
    host_program,
    rundir::RunDir,
    serve::{shared::Shared, stage::within, upgrade::Upgrade},
};

/// Gets ready to make way, while the streams go on.
///
/// # Errors
/// Why this agent stays, in one line. Nothing has changed then.
pub(crate) async fn prepare(request: UpgradeRequest, shared: &Shared) -> Result<Prepared, String> {
    if shared.stays.load(Ordering::Relaxed) {
        return Err("an upgrade has failed before".to_owned());
    }
    let format = check(&request)?;
    runs(&request.successor).await?;
    let folder = RunDir::at(request.run_dir.clone());
    let lock = folder.and_then(|folder| folder.lock());
    let lock = lock
        .map_err(|error| format!("{}: {error}", request.run_dir.display()))?
        .ok_or("the successor runs already")?;
    if !shared.context.quiesce.close() {
        return Err("an upgrade is under way".to_owned());
    }
    if timeout(DRAIN, shared.context.quiesce.empty()).await.is_err() {
        shared.context.quiesce.open();
        return Err("a workload is being started".to_owned());
    }
    within("helpers", shared.context.workloads.shutdown()).await;
    Ok(Prepared {
        request,
        format,
        lock,
    })
}

/// Nothing stands in the way of an upgrade.
pub(crate) struct Prepared {
    request: UpgradeRequest,
    format: u32,
    lock: File,
}

impl Prepared {
    /// `asker` is told when the successor is there.
    pub(crate) fn for_asker(self, asker: UnixStream) -> Upgrade {
        Upgrade {
            asker,
            successor: self.request.successor,
            run_dir: self.request.run_dir,
            format: self.format,
            lock: self.lock,
        }
    }
}

/// The format of the snapshot that the successor is to be left.
fn check(request: &UpgradeRequest) -> Result<u32, String> {
    let version = |text: &str| parse_version(text).ok_or_else(|| format!("`{text}` is no version"));
    if version(&request.version)? < version(BUILD)? {
        return Err(format!("this agent's version {BUILD} is newer"));
    }
    if request.handshake.as_bytes() != ALPN {
        return Err("its clients would not understand the successor".to_owned());
    }
    let format = SNAPSHOT_FORMATS
        .newest_shared(request.formats)
        .ok_or("the successor would not understand what this agent leaves")?;
    let file = std::fs::metadata(&request.successor);
    let file = file.map_err(|error| format!("{}: {error}", request.successor.display()))?;
    let own = rustix::process::geteuid().as_raw();
    if !file.is_file() || file.uid() != own || file.mode() & 0o022 != 0 || file.mode() & 0o100 == 0 {
        let path = request.successor.display();
        return Err(format!("{path} is not a program that only its user may change"));
    }
    Ok(format)
}

/// Whether the program runs here: for the right machine, whole, and not in a place that forbids it.
async fn runs(program: &Path) -> Result<(), String> {
    match host_program::output(program, &["--version"], VERSION_CHECK).await {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{}: {}", program.display(), output.status)),
        Err(error) => Err(format!("{}: {error}", program.display())),
    }
}

/// The numbers of a version, and whether it is a release, so that they compare as the versions do (Semantic Versioning
/// 2.0.0, section 11; pre-releases of the same version count as equal).
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
