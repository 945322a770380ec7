//! Where a connection failed, and how to read what was said about it.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use crate::ssh::{
    log::{Log, Stage},
    stderr::Words,
};

/// A host whose connection failed, and its position in the chain.
#[derive(Clone, Copy, Debug)]
pub(in crate::ssh) struct Place<'a> {
    /// As the user or the configuration writes it.
    pub(in crate::ssh) name: &'a str,
    /// Command with which the user can try it by hand.
    pub(in crate::ssh) by_hand: &'a str,
    /// Name or address that ssh connects to.
    pub(in crate::ssh) hostname: &'a str,
    /// Its name in known_hosts.
    pub(in crate::ssh) known_as: &'a str,
    /// The previous host of the chain, and the log of the connection to it, if that is ours.
    pub(in crate::ssh) through: Option<(&'a str, Option<&'a Log>)>,
    /// The target, if this host is a jump host on the way to it.
    pub(in crate::ssh) on_the_way_to: Option<&'a str>,
}

pub(super) fn interrupted(log: &Log, status: Option<ExitStatus>) -> bool {
    status.and_then(|s| s.signal()) == Some(2) || log.last().is_some_and(|m| m.contains("Killed by signal 2"))
}

/// What programs of this machine have written to standard error: nothing, if it may be the host's.
pub(super) fn local(words: &Words) -> Vec<&str> {
    if words.log.stage() > Stage::Unheard {
        return Vec::new();
    }
    words.said.iter().map(String::as_str).collect()
}

/// The last words of a host as a quotation.
pub(super) fn quoted<'a>(lines: impl DoubleEndedIterator<Item = &'a str>) -> Option<String> {
    let mut last: Vec<_> = lines
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(3)
        .collect();
    last.reverse();
    (!last.is_empty()).then(|| format!("the host says: \"{}\"", last.join(" ").replace('"', "'")))
}

pub(super) fn ended(status: Option<ExitStatus>) -> String {
    match (status.and_then(|s| s.code()), status.and_then(|s| s.signal())) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "it had to be killed".to_owned(),
    }
}

/// The last line that contains one of `texts`.
pub(super) fn line_with<'a>(lines: &[&'a str], texts: &[&str]) -> Option<&'a str> {
    lines
        .iter()
        .rev()
        .find(|line| texts.iter().any(|text| line.contains(text)))
        .map(|line| line.trim())
}
