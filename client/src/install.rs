//! The agent on a host: is it there, which one fits, how it gets there. Needs `sh`, `cat`, `mkdir`, `chmod`, `mv` and
//! `uname` on the host; uses gzip and sha256sum where they are.
//!
//! # Layout
//!
//! - [`probe`]: the first exchange: start the agent that is there, or say where one could be
//! - `upload`: one agent into one folder, verified before it has its name
//!
//! The scripts are given to the host's `/bin/sh` on its standard input, never as arguments. An agent's file carries its
//! hash in its name and gets that name last, so that whatever has the name is whole, and any number of clients can
//! install at once.

pub mod probe;
mod upload;

use crate::{
    bundle::Agent,
    error::{Failure, Kind},
    remote::{RemoteHost, Reporter},
};
use probe::Report;
use upload::Outcome;

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

/// A script with values given to it as variables, each quoted.
fn with_variables(variables: &[(&str, &str)], script: &str) -> String {
    let mut text = String::with_capacity(script.len() + 512);
    for (name, value) in variables {
        text.push_str(name);
        text.push('=');
        text.push_str(&quoted(value));
        text.push('\n');
    }
    text.push_str(script);
    text
}

/// `text` as one word of a POSIX shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
