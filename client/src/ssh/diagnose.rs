//! Turns what ssh and a shell said into failures with hints. Pure functions of text.
//!
//! Decisions rest on ssh's own messages. What a host says is quoted as the host's; advice is made of our own words and of
//! what this machine knows. OpenSSH does not translate its messages. The parts from the C library (`Connection refused`)
//! may be translated: they are shown, but never needed for a decision.

use std::process::ExitStatus;

use super::{log::Stage, stderr::Words};
use crate::error::{Failure, Kind};

mod evidence;
mod expired;
mod key;
mod login;
mod network;
mod shell;
pub(super) use evidence::Place;
use evidence::{ended, interrupted, line_with, local, quoted};
pub(super) use network::configuration;
pub(super) use shell::{EndedShell, ended_shell, silent, stuck, too_loud};

/// The failure of a connection, from what ssh said.
#[must_use]
pub(super) fn connection(place: Place<'_>, words: &Words, status: Option<ExitStatus>) -> Failure {
    let mut failure = by_a_gateway(place, words)
        .or_else(|| key::failure(place, &words.log))
        .or_else(|| login::failure(place, words))
        .or_else(|| network::failure(place, words))
        .unwrap_or_else(|| by_nothing_known(place, words, status));
    if interrupted(&words.log, status) {
        failure = Failure::new(Kind::Interrupted, "interrupted while connecting");
    }
    let failure = if failure.host.is_none() {
        failure.on(place.name)
    } else {
        failure
    };
    match place.on_the_way_to {
        Some(target) if failure.why.is_empty() => failure.because(format!("it is on the way to {target}")),
        Some(target) => {
            let why = format!("{} (it is on the way to {target})", failure.why);
            failure.because(why)
        }
        None => failure,
    }
}

/// The failure of a host, or of a ProxyCommand, that prints without end before the login is done.
pub(super) fn endless(place: Place<'_>, words: &Words) -> Failure {
    let (who, why) = match local(words).last() {
        Some(line) => ("its ProxyCommand", format!("it prints: {line}")),
        None => (
            "the host",
            quoted(words.said.iter().map(String::as_str)).unwrap_or_default(),
        ),
    };
    Failure::new(
        Kind::Unreachable,
        format!("cannot log in: {who} prints without end"),
    )
    .on(place.name)
    .because(why)
    .hint(format!("try `{}`", place.by_hand))
}

/// The previous host did not forward the connection.
fn by_a_gateway(place: Place<'_>, words: &Words) -> Option<Failure> {
    let (gateway, log) = place.through?;
    if words.log.stage() > Stage::Unheard {
        return None;
    }
    // What the ssh says that asked for it. Nobody else has had a word yet.
    line_with(
        &words.said.iter().map(String::as_str).collect::<Vec<_>>(),
        &["tdio forwarding request failed"],
    )?;
    let said = log
        .map(|log| log.messages().collect::<Vec<_>>())
        .unwrap_or_default();
    let reason = said
        .iter()
        .rev()
        .find_map(|line| line.split_once(": open failed: "))
        .map(|(_, why)| why);
    let Some(reason) = reason else {
        return Some(
            Failure::new(Kind::Unreachable, "cannot connect")
                .because(format!("{gateway} did not forward the connection"))
                .hint(format!("check with: {}", place.by_hand)),
        );
    };
    if reason.starts_with("administratively prohibited") {
        return Some(
            Failure::new(Kind::Unreachable, "cannot connect through the gateway")
                .on(gateway)
                .because(format!(
                    "its sshd does not allow forwarding to {}",
                    place.hostname
                ))
                .hint("ask its administrator for AllowTcpForwarding and PermitOpen in sshd_config(5)"),
        );
    }
    let detail = reason.strip_prefix("connect failed: ").unwrap_or(reason);
    let (kind, hint) = if is_unknown_name(detail) {
        (
            Kind::UnknownHost,
            format!("check the host name as {gateway} resolves it (HostName in ~/.ssh/config)"),
        )
    } else {
        (
            Kind::Unreachable,
            format!(
                "check that it is up: ssh to {gateway}, then to {} from there",
                place.hostname
            ),
        )
    };
    let why = format!("{gateway} cannot connect to {}: {detail}", place.hostname);
    Some(Failure::new(kind, "cannot connect").because(why).hint(hint))
}

fn is_unknown_name(text: &str) -> bool {
    [
        "not known",
        "nodename nor servname",
        "No address associated",
        "resolve",
    ]
    .iter()
    .any(|t| text.contains(t))
}

fn by_nothing_known(place: Place<'_>, words: &Words, status: Option<ExitStatus>) -> Failure {
    let why = match (words.log.last(), local(words).last()) {
        (Some(message), _) => message.to_owned(),
        (None, Some(line)) => (*line).to_owned(),
        (None, None) => format!("ssh ended without a message ({})", ended(status)),
    };
    Failure::new(Kind::Unreachable, "cannot connect")
        .because(why)
        .hint(format!("try `{} -v`", place.by_hand))
}

#[cfg(test)]
mod tests;
