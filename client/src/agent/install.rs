//! Putting an agent on a host: another try where the first may have been bad luck, and what is said when no folder takes
//! it.

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

/// Puts `agent` into `folder` of `host`, trying twice where the first try may have been bad luck. Some: why the folder
/// does not take it.
///
/// # Errors
/// When no shell can be had.
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
            Outcome::Damaged => last = "the agent arrived there damaged, twice".into(),
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

/// No folder takes the agent: each, and why.
pub(crate) fn nowhere(host: &str, agent: &Agent, refusals: &[(String, String)]) -> Failure {
    let megabytes = agent.length().div_ceil(1_000_000);
    let each: Vec<_> = refusals
        .iter()
        .map(|(folder, why)| format!("{folder}: {why}"))
        .collect();
    let why = if each.is_empty() {
        "no folder can hold it".to_owned()
    } else {
        each.join("; ")
    };
    let full = each.iter().any(|text| upload::is_full(text));
    let hint = if full {
        format!("free {megabytes} MB in one of these folders, or set TMPDIR there to one with room")
    } else {
        format!("make one of these folders writable and executable for you ({megabytes} MB are needed)")
    };
    Failure::new(Kind::InstallFailed, "cannot put the agent anywhere")
        .on(host)
        .because(why)
        .hint(hint)
}

#[cfg(test)]
mod tests;
