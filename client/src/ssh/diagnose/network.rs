//! Failures of the network, of a ProxyCommand, and of ssh's configuration.

use super::evidence::{Place, line_with, local};
use crate::{
    error::{Failure, Kind},
    ssh::{log::Stage, stderr::Words},
};

/// The host cannot be reached, or ssh refuses its configuration.
pub(super) fn failure(place: Place<'_>, words: &Words) -> Option<Failure> {
    let mut lines = local(words);
    lines.extend(words.log.messages());
    by_name(&lines)
        .or_else(|| by_network(place, words, &lines))
        .or_else(|| by_configuration(words, &lines))
}

fn by_name(lines: &[&str]) -> Option<Failure> {
    let line = line_with(lines, &["Could not resolve hostname"])?;
    let why = line.strip_prefix("ssh: ").unwrap_or(line);
    Some(if why.contains("emporary failure") {
        Failure::new(Kind::Unreachable, "cannot connect")
            .because(why)
            .hint("check this machine's network: no name server answers")
    } else {
        Failure::new(Kind::UnknownHost, "no such host")
            .because(why)
            .hint("check the name, Host and HostName in ~/.ssh/config, and whether a VPN is needed")
    })
}

fn by_network(place: Place<'_>, words: &Words, lines: &[&str]) -> Option<Failure> {
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
    let is_end = |line: &str| {
        [
            "timed out",
            "onnection closed by",
            "onnection reset by",
            "exchange_identification",
            "roken pipe",
            "not responding",
        ]
        .iter()
        .any(|text| line.contains(text))
    };
    let line = lines.iter().find(|line| is_end(line))?;
    let complaint = local(words).into_iter().find(|line| !is_end(line));
    // ssh has no address of the host where a program of this machine makes the connection.
    let is_proxied = lines.iter().any(|l| l.contains("UNKNOWN port")) && place.through.is_none();
    if is_proxied && words.log.stage() == Stage::Unheard {
        let why = complaint.map_or_else(
            || (*line).to_owned(),
            |said| format!("its ProxyCommand says: {said}"),
        );
        return unreachable(
            &why,
            format!("check its ProxyCommand in ~/.ssh/config: {}", place.by_hand),
        );
    }
    unreachable(
        complaint.unwrap_or(line),
        format!(
            "the host may be overloaded, or block this address for a while: try `{}`",
            place.by_hand
        ),
    )
}

/// Problems with the configuration of ssh, which it finds before it connects.
fn by_configuration(words: &Words, lines: &[&str]) -> Option<Failure> {
    if words.log.stage() > Stage::Unheard {
        return None;
    }
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
pub(in crate::ssh) fn configuration(line: &str) -> Failure {
    Failure::new(Kind::Usage, "ssh refuses its configuration")
        .because(line)
        .hint("correct the option, or the configuration file (~/.ssh/config or the one given with -F)")
}
