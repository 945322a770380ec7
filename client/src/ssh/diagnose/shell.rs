//! Failures of shells.

use std::{process::ExitStatus, time::Duration};

use jq_common::text;

use super::{
    evidence::{ended, interrupted, quoted},
    expired,
};
use crate::{
    error::{Failure, Kind},
    ssh::stderr::Words,
};

/// A shell that ended early although the login works.
#[derive(Clone, Copy, Debug)]
pub(in crate::ssh) struct EndedShell<'a> {
    /// Its host, as the user writes it.
    pub(in crate::ssh) host: &'a str,
    /// Its exit status; none if it had to be killed.
    pub(in crate::ssh) status: Option<ExitStatus>,
    /// What it printed instead of the expected output.
    pub(in crate::ssh) printed: &'a str,
    /// What only our script contains, if the script was not seen to run. None: it ran.
    pub(in crate::ssh) nonce: Option<&'a str>,
}

/// Why a shell ended early. The words are those of the ssh that uses the master connection, and the shell's standard error.
#[must_use]
pub(in crate::ssh) fn ended_shell(shell: EndedShell<'_>, words: &Words) -> Failure {
    let EndedShell {
        host,
        status,
        printed,
        nonce,
    } = shell;
    if interrupted(&words.log, status) {
        return Failure::new(Kind::Interrupted, "interrupted").on(host);
    }
    if words.log.session_refused() {
        return Failure::new(Kind::NoShell, "cannot start a shell")
            .on(host)
            .because("the login works, but its sshd refuses sessions")
            .hint("ask its administrator for a login with a shell (MaxSessions in sshd_config(5) may be 0)");
    }
    if words.log.connection_lost() {
        return Failure::new(Kind::ConnectionLost, "the SSH connection ended")
            .on(host)
            .because(words.log.last().unwrap_or_default())
            .hint("connect again");
    }
    let said = || words.said.iter().map(String::as_str);
    let Some(nonce) = nonce else {
        let why = quoted(said()).unwrap_or_else(|| ended(status));
        // ssh's own status for a connection that failed (ssh(1)).
        if status.and_then(|status| status.code()) == Some(255) {
            return Failure::new(Kind::ConnectionLost, "the SSH connection ended")
                .on(host)
                .because(why)
                .hint("connect again");
        }
        return Failure::new(Kind::AgentFailed, "the shell ended while it was at work")
            .on(host)
            .because(why)
            .hint("try again");
    };
    if let Some(failure) = expired::failure(host, &format!("ssh {host}"), said()) {
        return failure.on(host);
    }
    if let Some(failure) = other_reader(host, printed, words, nonce) {
        return failure;
    }
    let printed = text::one_line(printed, 200);
    let all = quoted(std::iter::once(printed.as_str()).chain(said()));
    let (why, hint) = match (all, status.and_then(|s| s.code())) {
        (all, Some(127)) => (
            format!("it has no /bin/sh{}", all.map_or_else(String::new, |all| format!("; {all}"))),
            "jq needs /bin/sh on the host".to_owned(),
        ),
        (None, _) => (
            format!("the shell ended at once ({})", ended(status)),
            "check the login shell and its start-up files: they end the session".to_owned(),
        ),
        (Some(all), _) => (
            format!("it ended ({}) before it ran anything; {all}", ended(status)),
            "its login shell, a start-up file or its sshd runs something else than what is asked for: ask its administrator \
             for a login that runs commands"
                .to_owned(),
        ),
    };
    no_shell(host, "cannot start a shell").because(why).hint(hint)
}

fn no_shell(host: &str, what: &str) -> Failure {
    Failure::new(Kind::NoShell, what).on(host)
}

/// Something that is no Bourne shell has read our script, and shows parts of it: an `exec fish` in a start-up file, or a
/// forced command that reads. Nothing of the script is repeated.
fn other_reader(host: &str, printed: &str, words: &Words, nonce: &str) -> Option<Failure> {
    let mut lines = words.said.iter().map(String::as_str).chain([printed]);
    if !lines.any(|line| line.contains(nonce)) {
        return None;
    }
    let who = if words.said.iter().any(|line| line.starts_with("fish: ")) {
        "fish"
    } else if printed.contains(&format!("csh {nonce}")) {
        "csh"
    } else {
        "something else"
    };
    Some(
        no_shell(host, "cannot start a shell")
            .because(format!("{who} reads what /bin/sh is to read"))
            .hint(
                "if a start-up file (~/.bashrc) starts another shell with `exec`, do that in interactive shells only: \
                 `case $- in *i*) exec fish ;; esac`",
            ),
    )
}

/// The failure of a shell that does not print the expected output in time.
#[must_use]
pub(in crate::ssh) fn silent(host: &str, printed: &str, words: &Words, nonce: &str) -> Failure {
    let what = "the shell does not answer within 30 s";
    if let Some(failure) = other_reader(host, printed, words, nonce) {
        return failure;
    }
    let printed = text::one_line(printed, 200);
    let said = std::iter::once(printed.as_str()).chain(words.said.iter().map(String::as_str));
    no_shell(host, what)
        .because(quoted(said).unwrap_or_else(|| "it prints nothing".to_owned()))
        .hint("a start-up file may wait for input or start another program: log in with `ssh` to check")
}

/// The failure of a shell whose script is at work and prints nothing for `limit`.
#[must_use]
pub(in crate::ssh) fn stuck(host: &str, limit: Duration) -> Failure {
    let limit = limit.as_secs();
    Failure::new(
        Kind::AgentFailed,
        format!("the host has done nothing for {limit} s"),
    )
    .on(host)
    .because("its shell runs, and waits for something, such as a file system that hangs")
    .hint("log in with `ssh` and look at its disks and at its load")
}

/// The failure of a shell whose start-up files print without end.
#[must_use]
pub(in crate::ssh) fn too_loud(host: &str, printed: &str) -> Failure {
    no_shell(host, "the shell's start-up files print more than 1 MiB")
        .because(format!("it begins with: {}", text::one_line(printed, 200)))
        .hint("make them (~/.bashrc, ~/.profile) silent without a terminal")
}
