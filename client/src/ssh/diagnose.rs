//! From what ssh and a shell complained about to what a user can do: plain functions of text.
//!
//! The texts are OpenSSH's, which no locale changes; what the C library adds to them (`Connection refused`) may be in
//! another language and is therefore passed on and not relied upon.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use crate::error::{Failure, Kind};

mod shell;
pub(super) use shell::is_refused_session;
pub(crate) use shell::{shell, silent, too_loud};

/// The host whose connection failed, and its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// As the user or the configuration calls it.
    pub(crate) name: &'a str,
    /// What a user can type to try the same.
    pub(crate) by_hand: &'a str,
    /// The name or address that ssh connects to.
    pub(crate) hostname: &'a str,
    /// The host before it in the chain, and what that host's connection has complained about since.
    pub(crate) through: Option<(&'a str, &'a [String])>,
    /// The host that is reached through it in the end, where it is not the target itself.
    pub(crate) on_the_way_to: Option<&'a str>,
}

/// Why a connection could not be made, from the lines that ssh wrote before it ended.
#[must_use]
pub(crate) fn connection(place: Place<'_>, lines: &[String], status: Option<ExitStatus>) -> Failure {
    let mut failure = by_a_gateway(place, lines)
        .or_else(|| by_key(place, lines))
        .or_else(|| by_login(place, lines))
        .or_else(|| by_network(place, lines))
        .or_else(|| by_configuration(lines))
        .unwrap_or_else(|| by_nothing_known(place, lines, status));
    if interrupted(lines, status) {
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

fn interrupted(lines: &[String], status: Option<ExitStatus>) -> bool {
    status.and_then(|s| s.signal()) == Some(2) || line_with(lines, &["Killed by signal 2"]).is_some()
}

/// The host before this one refused to pass the connection on.
fn by_a_gateway(place: Place<'_>, lines: &[String]) -> Option<Failure> {
    let (gateway, said) = place.through?;
    line_with(lines, &["tdio forwarding request failed"])?;
    let reason = said
        .iter()
        .rev()
        .find_map(|line| line.split_once(": open failed: "))
        .map(|(_, why)| why);
    let Some(reason) = reason else {
        return Some(
            Failure::new(Kind::Unreachable, "cannot connect")
                .because(format!("{gateway} did not pass the connection on"))
                .hint(format!("check with: {}", place.by_hand)),
        );
    };
    if reason.starts_with("administratively prohibited") {
        return Some(
            Failure::new(Kind::Unreachable, "cannot go through the gateway")
                .on(gateway)
                .because(format!(
                    "its sshd does not let connections to {} through",
                    place.hostname
                ))
                .hint("ask its administrator for AllowTcpForwarding and PermitOpen in sshd_config(5)"),
        );
    }
    let detail = reason.strip_prefix("connect failed: ").unwrap_or(reason);
    let (kind, hint) = if is_unknown_name(detail) {
        (
            Kind::UnknownHost,
            format!("check the host's name as {gateway} knows it (HostName in ~/.ssh/config)"),
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

/// The host's key.
fn by_key(place: Place<'_>, lines: &[String]) -> Option<Failure> {
    if line_with(
        lines,
        &[
            "REMOTE HOST IDENTIFICATION HAS CHANGED",
            "has changed and you have requested strict",
        ],
    )
    .is_some()
    {
        let remove = lines
            .iter()
            .map(|l| l.trim())
            .find(|l| l.starts_with("ssh-keygen -f "));
        let remove = remove.map_or_else(|| format!("ssh-keygen -R {}", place.hostname), str::to_owned);
        let known = lines
            .iter()
            .find_map(|l| l.strip_prefix("Offending "))
            .and_then(|l| l.split_once(" key in "));
        let known = known.map_or_else(String::new, |(_, at)| format!(" ({at})"));
        return Some(
            Failure::new(Kind::HostKeyChanged, "refused to connect: the host's key has changed")
                .because(format!(
                    "it is not the key that this machine knows{known}: the host was set up anew, or somebody stands in between"
                ))
                .hint(format!("ask its administrator; only if the key was changed on purpose: {remove}")),
        );
    }
    if line_with(lines, &["REVOKED HOST KEY"]).is_some() {
        return Some(
            Failure::new(
                Kind::HostKeyChanged,
                "refused to connect: the host's key is revoked",
            )
            .because("the key that it shows is on the list of revoked keys")
            .hint("ask its administrator for the new key"),
        );
    }
    line_with(lines, &["Host key verification failed"])?;
    let why = line_with(lines, &["host key is known for"]).map_or(
        "its key is not known here, and was not accepted",
        |_| "its key is not known here, and ssh is set to refuse such hosts",
    );
    Some(
        Failure::new(Kind::HostKeyUnknown, "cannot be sure that it is the right host")
            .because(why)
            .hint(format!("run once and answer ssh's question: {}", place.by_hand)),
    )
}

/// The login.
fn by_login(place: Place<'_>, lines: &[String]) -> Option<Failure> {
    let refused = |why: String, hint: String| {
        Some(
            Failure::new(Kind::LoginRefused, "cannot log in")
                .because(why)
                .hint(hint),
        )
    };
    if line_with(lines, &["Too many authentication failures"]).is_some() {
        return refused(
            "too many keys were offered before the right one".into(),
            format!(
                "name the key (IdentityFile) and set IdentitiesOnly yes for {} in ~/.ssh/config",
                place.name
            ),
        );
    }
    let line = line_with(
        lines,
        &[
            "Permission denied (",
            "Permission denied, please try again",
            "No more authentication methods",
            "No supported authentication methods",
        ],
    )?;
    let key = line_with(
        lines,
        &[
            "UNPROTECTED PRIVATE KEY",
            "Load key ",
            "no such identity",
            "not accessible",
        ],
    );
    let why = match key {
        Some(key) => format!("{line}; {}", key.trim_matches(['@', ' '])),
        None => line.to_owned(),
    };
    refused(
        why,
        format!("try `{0}`; `{0} -v` shows which keys are offered", place.by_hand),
    )
}

/// The way there.
fn by_network(place: Place<'_>, lines: &[String]) -> Option<Failure> {
    if let Some(line) = line_with(lines, &["Could not resolve hostname"]) {
        let why = line.strip_prefix("ssh: ").unwrap_or(line);
        return Some(if why.contains("emporary failure") {
            Failure::new(Kind::Unreachable, "cannot connect")
                .because(why)
                .hint("check this machine's network: no name server answers")
        } else {
            Failure::new(Kind::UnknownHost, "no such host").because(why).hint(
                "check the name, Host and HostName in ~/.ssh/config, and whether a VPN is needed for it",
            )
        });
    }
    let unreachable = |why: &str, hint: String| {
        Some(
            Failure::new(Kind::Unreachable, "cannot connect")
                .because(why)
                .hint(hint),
        )
    };
    if let Some(line) = line_with(lines, &["connect to host "]) {
        let why = line.strip_prefix("ssh: ").unwrap_or(line);
        let hint = if why.contains("refused") {
            "no sshd answers there: check the port (ssh://host:port) and that the host is up".to_owned()
        } else if why.contains("unreachable") || why.contains("No route") {
            "check this machine's network, and whether a VPN is needed".to_owned()
        } else {
            "the host is off, or a firewall is in between: check the network, and whether a VPN is needed"
                .to_owned()
        };
        return unreachable(why, hint);
    }
    if let Some(line) = line_with(lines, &["Unable to negotiate with"]) {
        return unreachable(
            line,
            format!(
                "the host and this ssh have no algorithm in common: try `{} -v`",
                place.by_hand
            ),
        );
    }
    let line = line_with(
        lines,
        &[
            "timed out",
            "onnection closed by",
            "onnection reset by",
            "exchange_identification",
            "roken pipe",
            "not responding",
        ],
    )?;
    let complaint = lines
        .iter()
        .find(|l| !l.contains("onnection closed by") && !l.contains("exchange_identification"));
    let why = complaint.map_or(line, String::as_str);
    let hint = if lines.iter().any(|l| l.contains("UNKNOWN port")) && place.through.is_none() {
        format!("check its ProxyCommand in ~/.ssh/config: {}", place.by_hand)
    } else {
        format!(
            "the host may be too busy, or refuse this address for a while: try `{}`",
            place.by_hand
        )
    };
    unreachable(why, hint)
}

/// This machine's configuration of ssh.
fn by_configuration(lines: &[String]) -> Option<Failure> {
    let line = line_with(
        lines,
        &[
            "ad configuration option",
            "nsupported option",
            "issing argument",
            "xtra arguments",
            "nvalid",
            "Bad owner or permissions",
            "Can't open user config file",
            "jumphost loop",
            "unix_listener",
        ],
    )?;
    Some(configuration(line))
}

/// ssh cannot make sense of its configuration.
pub(super) fn configuration(line: &str) -> Failure {
    Failure::new(Kind::Usage, "ssh refuses its configuration")
        .because(line)
        .hint("correct the option, or the file that is named (~/.ssh/config or the one given with -F)")
}

fn by_nothing_known(place: Place<'_>, lines: &[String], status: Option<ExitStatus>) -> Failure {
    let why = match lines.last() {
        Some(line) => line.clone(),
        None => format!("ssh ended without a word ({})", ended(status)),
    };
    Failure::new(Kind::Unreachable, "cannot connect")
        .because(why)
        .hint(format!("try `{} -v`", place.by_hand))
}

fn ended(status: Option<ExitStatus>) -> String {
    match (status.and_then(|s| s.code()), status.and_then(|s| s.signal())) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "it had to be stopped".to_owned(),
    }
}

/// The last line that holds one of `texts`.
fn line_with<'a>(lines: &'a [String], texts: &[&str]) -> Option<&'a str> {
    lines
        .iter()
        .rev()
        .find(|line| texts.iter().any(|text| line.contains(text)))
        .map(|line| line.trim())
}

#[cfg(test)]
mod tests;
