//! Failures of shells.

use std::process::ExitStatus;

use jq_common::text;

use super::{ended, interrupted, line_with};
use crate::error::{Failure, Kind};

/// The failure of a shell that ended early although the login works. `printed` is the beginning of its unexpected output.
#[must_use]
pub(crate) fn shell(host: &str, lines: &[String], status: Option<ExitStatus>, printed: &str) -> Failure {
    if interrupted(lines, status) {
        return Failure::new(Kind::Interrupted, "interrupted").on(host);
    }
    if is_refused_session(lines) {
        return Failure::new(Kind::NoShell, "cannot start a shell")
            .on(host)
            .because("the login works, but its sshd refuses sessions")
            .hint("ask its administrator for a login with a shell (MaxSessions in sshd_config(5) may be 0)");
    }
    if line_with(
        lines,
        &[
            "UNKNOWN port",
            "control socket",
            "Control socket",
            "mux_client",
            "onnection closed by",
        ],
    )
    .is_some()
    {
        return Failure::new(Kind::ConnectionLost, "the SSH connection ended")
            .on(host)
            .because(lines.last().map_or("", String::as_str))
            .hint("connect again");
    }
    let said = format!("{printed} {}", lines.join(" "));
    let said = said.trim();
    let (why, hint) = if status.and_then(|s| s.code()) == Some(127) {
        (
            format!("it has no /bin/sh: {said}"),
            "jq needs /bin/sh on the host",
        )
    } else if ["nologin", "not available", "no shell", "No shell", "restricted"]
        .iter()
        .any(|t| said.contains(t))
    {
        (said.to_owned(), "ask its administrator for a login with a shell")
    } else if said.is_empty() {
        (
            format!("the shell ended at once ({})", ended(status)),
            "check the login shell and its start-up files: they end the session",
        )
    } else {
        (
            format!("unexpected output instead of a shell: {said}"),
            "ForceCommand in its sshd_config(5), or a start-up file, runs another program than the shell",
        )
    };
    Failure::new(Kind::NoShell, "cannot start a shell")
        .on(host)
        .because(why)
        .hint(hint)
}

/// Whether the host refused the session.
pub(in crate::ssh) fn is_refused_session(lines: &[String]) -> bool {
    line_with(lines, &["session request failed", "open failed"]).is_some()
}

/// The failure of a shell that does not print the expected output in time.
#[must_use]
pub(crate) fn silent(host: &str, printed: &str) -> Failure {
    let printed = text::one_line(printed, 200);
    let why = if printed.is_empty() {
        "it prints nothing".to_owned()
    } else {
        format!("it printed only: {printed}")
    };
    Failure::new(Kind::NoShell, "the shell does not answer within 30 s")
        .on(host)
        .because(why)
        .hint("a start-up file may wait for input or start another program: log in with `ssh` to check")
}

/// The failure of a shell whose start-up files print without end.
#[must_use]
pub(crate) fn too_loud(host: &str, printed: &str) -> Failure {
    Failure::new(Kind::NoShell, "the shell's start-up files print more than 1 MiB")
        .on(host)
        .because(format!("it begins with: {}", text::one_line(printed, 200)))
        .hint("make them (~/.bashrc, ~/.profile) silent without a terminal")
}
