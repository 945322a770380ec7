//! Installs an agent in a folder of a host, with a second attempt, and reports the failure when no folder accepts it.

use super::{
    bundle::Agent,
    probe::Report,
    upload::{self, Outcome},
};
use crate::{
    error::{Failure, Kind},
    reporter::Reporter,
    ssh::RemoteHost,
};

/// Uploads `agent` to `folder` on `host`; after a transient problem once more, uncompressed. `Some`: why it failed.
///
/// # Errors
/// When no shell can be started.
pub(crate) async fn install(
    host: &dyn RemoteHost,
    agent: &Agent,
    folder: &str,
    report: &Report,
    reporter: &dyn Reporter,
) -> Result<Option<String>, Failure> {
    let mut last = String::new();
    for packed in [report.gzip, false] {
        match upload::upload(host, agent, folder, packed, reporter).await? {
            Outcome::Done => return Ok(None),
            Outcome::Damaged => last = "the agent was corrupted during the upload, twice".into(),
            Outcome::Refused { why, free } => {
                last = match free {
                    Some(free) => format!("{why} ({free} KiB are free)"),
                    None => why,
                };
                if upload::is_final(&last) {
                    break;
                }
            }
        }
        tracing::debug!(folder, packed, last, "upload failed");
    }
    Ok(Some(last))
}

/// The failure when no folder accepts the agent. `refusals` are folders and causes.
pub(crate) fn nowhere(host: &str, agent: &Agent, refusals: &[(String, String)]) -> Failure {
    let megabytes = agent.length().div_ceil(1_000_000);
    let each: Vec<_> = refusals
        .iter()
        .map(|(folder, why)| format!("{folder}: {why}"))
        .collect();
    let why = if each.is_empty() {
        "there is no suitable folder".to_owned()
    } else {
        each.join("; ")
    };
    let full = each.iter().any(|text| upload::is_full(text));
    let hint = if full {
        format!(
            "free {megabytes} MB in one of these folders, or set TMPDIR on the host to a folder with space"
        )
    } else {
        format!("make one of these folders writable and executable for your user ({megabytes} MB are needed)")
    };
    Failure::new(Kind::InstallFailed, "cannot install the agent")
        .on(host)
        .because(why)
        .hint(hint)
}

#[cfg(test)]
mod tests;
