//! Turns messages of ssh and of a shell into failures with hints. Pure functions of text.
//!
//! OpenSSH does not translate its messages. The parts from the C library (`Connection refused`) may be translated: they are
//! shown, but never needed for a decision.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use crate::error::{Failure, Kind};

mod shell;
pub(super) use shell::is_refused_session;
pub(crate) use shell::{shell, silent, too_loud};

/// A host whose connection failed, and its position in the chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// As the user or the configuration writes it.
    pub(crate) name: &'a str,
    /// Command with which the user can try it by hand.
    pub(crate) by_hand: &'a str,
    /// Name or address that ssh connects to.
    pub(crate) hostname: &'a str,
    /// The previous host of the chain, and the messages of the connection to it.
    pub(crate) through: Option<(&'a str, &'a [String])>,
    /// The target, if this host is a jump host on the way to it.
    pub(crate) on_the_way_to: Option<&'a str>,
}

/// The failure of a connection, from the messages of ssh.
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

/// The previous host did not forward the connection.
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

/// Problems with the host key.
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
                    "it is not the key that this machine knows{known}: the host was reinstalled, or somebody intercepts the connection"
                ))
                .hint(format!("ask its administrator; if the key was changed on purpose: {remove}")),
        );
    }
    if line_with(lines, &["REVOKED HOST KEY"]).is_some() {
        return Some(
            Failure::new(
                Kind::HostKeyChanged,
                "refused to connect: the host's key is revoked",
            )
            .because("its key is on the list of revoked keys")
            .hint("ask its administrator for the new key"),
        );
    }
    line_with(lines, &["Host key verification failed"])?;
    let why = line_with(lines, &["host key is known for"]).map_or(
        "its key is unknown on this machine and was not accepted",
        |_| "its key is unknown on this machine, and ssh is configured to refuse such hosts",
    );
    Some(
        Failure::new(Kind::HostKeyUnknown, "cannot verify the host")
            .because(why)
            .hint(format!(
                "run this once and answer ssh's question: {}",
                place.by_hand
            )),
    )
}

/// Problems with the login.
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
            "ssh offered too many keys before the right one".into(),
            format!(
                "set IdentityFile and `IdentitiesOnly yes` for {} in ~/.ssh/config",
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

/// Problems with the network.
fn by_network(place: Place<'_>, lines: &[String]) -> Option<Failure> {
    if let Some(line) = line_with(lines, &["Could not resolve hostname"]) {
        let why = line.strip_prefix("ssh: ").unwrap_or(line);
        return Some(if why.contains("emporary failure") {
            Failure::new(Kind::Unreachable, "cannot connect")
                .because(why)
                .hint("check this machine's network: no name server answers")
        } else {
            Failure::new(Kind::UnknownHost, "no such host")
                .because(why)
                .hint("check the name, Host and HostName in ~/.ssh/config, and whether a VPN is needed")
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
            "nothing listens on the port: check the port (ssh://host:port) and that the host is up".to_owned()
        } else if why.contains("unreachable") || why.contains("No route") {
            "check this machine's network, and whether a VPN is needed".to_owned()
        } else {
            "the host is down or behind a firewall: check the network, and whether a VPN is needed".to_owned()
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
            "the host may be overloaded, or block this address for a while: try `{}`",
            place.by_hand
        )
    };
    unreachable(why, hint)
}

/// Problems with the configuration of ssh.
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

/// ssh refuses its configuration.
pub(super) fn configuration(line: &str) -> Failure {
    Failure::new(Kind::Usage, "ssh refuses its configuration")
        .because(line)
        .hint("correct the option, or the configuration file (~/.ssh/config or the one given with -F)")
}

fn by_nothing_known(place: Place<'_>, lines: &[String], status: Option<ExitStatus>) -> Failure {
    let why = match lines.last() {
        Some(line) => line.clone(),
        None => format!("ssh ended without a message ({})", ended(status)),
    };
    Failure::new(Kind::Unreachable, "cannot connect")
        .because(why)
        .hint(format!("try `{} -v`", place.by_hand))
}

fn ended(status: Option<ExitStatus>) -> String {
    match (status.and_then(|s| s.code()), status.and_then(|s| s.signal())) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "it had to be killed".to_owned(),
    }
}

/// The last line that contains one of `texts`.
fn line_with<'a>(lines: &'a [String], texts: &[&str]) -> Option<&'a str> {
    lines
        .iter()
        .rev()
        .find(|line| texts.iter().any(|text| line.contains(text)))
        .map(|line| line.trim())
}

#[cfg(test)]
mod tests;
