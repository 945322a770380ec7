//! Settings of the user's ssh configuration that would change our connections, and what they are instead. Everything that
//! is not listed here stays as the user has it (ssh_config(5)).

use super::config::Resolved;

/// One setting that is overruled.
struct Overruled {
    name: &'static str,
    value: &'static str,
    when: When,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for whoever reads the table; a test asks for it")
    )]
    why: &'static str,
}

/// When a setting is overruled.
enum When {
    /// On every connection: each ssh since OpenSSH 7.6 knows it.
    Always,
    /// Where this ssh knows it: an older one would refuse the option.
    Known,
    /// Unless its value is this one already, as `ssh -G` prints it.
    Unless(&'static str),
}

use When::{Always, Known, Unless};

const fn rule(name: &'static str, value: &'static str, when: When, why: &'static str) -> Overruled {
    Overruled {
        name,
        value,
        when,
        why,
    }
}

/// A master connection only multiplexes sessions and forwards connections to the next host. It has no shell of its own,
/// because a gateway may forbid one.
const CONNECTION: &[Overruled] = &[
    rule(
        "LogLevel",
        "DEBUG",
        Always,
        "its log says why a login fails, and is not shown; QUIET would hide the reason",
    ),
    rule(
        "LogVerbose",
        "none",
        Known,
        "its lines would be mixed with the messages",
    ),
    rule(
        "ControlPersist",
        "no",
        Always,
        "the connection ends with this process, not later",
    ),
    rule(
        "ForkAfterAuthentication",
        "no",
        Known,
        "ssh would go to the background, and outlive this process",
    ),
    rule("SessionType", "none", Known, "it has no session of its own"),
    rule(
        "StdinNull",
        "no",
        Known,
        "its standard input is /dev/null already; with it ssh wants a command",
    ),
    rule(
        "RemoteCommand",
        "none",
        Always,
        "nothing is run but our script in sessions of their own",
    ),
    rule("RequestTTY", "no", Always, "a terminal would change bytes"),
    rule(
        "PermitLocalCommand",
        "no",
        Always,
        "a connection that the user did not make by hand runs nothing here",
    ),
    rule(
        "ClearAllForwardings",
        "yes",
        Always,
        "LocalForward, RemoteForward and DynamicForward would take ports that the user's own ssh needs",
    ),
    rule(
        "ExitOnForwardFailure",
        "no",
        Always,
        "there are no forwardings that could fail",
    ),
    rule(
        "Tunnel",
        "no",
        Always,
        "no network device is made on either machine",
    ),
    rule(
        "ForwardAgent",
        "no",
        Always,
        "the host gets no access to the user's keys",
    ),
    rule(
        "ForwardX11",
        "no",
        Always,
        "the host gets no access to the user's screen",
    ),
    rule("VisualHostKey", "no", Always, "a picture in the log helps nobody"),
    rule(
        "UpdateHostKeys",
        "no",
        Unless("true"),
        "`ask` asks after the login, when the terminal is not ssh's any more",
    ),
    rule(
        "ChannelTimeout",
        "none",
        Known,
        "an idle channel must stay: a session may wait for hours",
    ),
    rule(
        "ServerAliveInterval",
        "15",
        Always,
        "a dead connection is noticed within a minute",
    ),
    rule("ServerAliveCountMax", "4", Always, "as above: 4 times 15 s"),
];

/// The options, `NAME=VALUE` each, that overrule the settings of a host. ssh uses the first value that it meets, so they
/// come before the user's.
pub(super) fn options(resolved: &Resolved) -> Vec<String> {
    let applies = |rule: &&Overruled| {
        let theirs = resolved.setting(&rule.name.to_ascii_lowercase());
        match rule.when {
            Always => true,
            Known => theirs.is_some(),
            Unless(value) => theirs.is_none_or(|theirs| !theirs.eq_ignore_ascii_case(value)),
        }
    };
    let rules = CONNECTION.iter().filter(applies);
    rules
        .map(|rule| format!("{}={}", rule.name, rule.value))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Everything that a user may have set, for the better or the worse.
    const HABITS: &str = "Host *\n  LogLevel QUIET\n  ControlMaster auto\n  ControlPath /tmp/nowhere/%C\n  ControlPersist 10m\n  \
        ForkAfterAuthentication yes\n  StdinNull yes\n  SessionType subsystem\n  RemoteCommand tmux attach\n  RequestTTY force\n  \
        PermitLocalCommand yes\n  LocalCommand touch /tmp/nowhere/touched\n  LocalForward 5432 db:5432\n  \
        RemoteForward 9000 localhost:9000\n  DynamicForward 1080\n  ExitOnForwardFailure yes\n  Tunnel point-to-point\n  \
        ForwardAgent yes\n  ForwardX11 yes\n  VisualHostKey yes\n  UpdateHostKeys ask\n  ServerAliveInterval 0\n";

    fn effective(config: &std::path::Path, options: &[String]) -> Resolved {
        let output = Command::new("ssh")
            .arg("-G")
            .arg("-F")
            .arg(config)
            .args(options.iter().map(|option| format!("-o{option}")))
            .args(["--", "gpu"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        Resolved::parse(&text).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    #[test]
    fn what_a_user_has_set_for_every_host_changes_no_connection() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config");
        std::fs::write(&config, HABITS).unwrap();
        let theirs = effective(&config, &[]);
        assert_eq!(theirs.setting("forkafterauthentication"), Some("yes"));
        let options = options(&theirs);
        let ours = effective(&config, &options);
        for option in &options {
            let (name, value) = option.split_once('=').unwrap();
            let is = ours.setting(&name.to_ascii_lowercase()).unwrap_or("none");
            // `ssh -G` prints some values in other words.
            let is = match is {
                "false" => "no",
                other => other,
            };
            assert!(is.eq_ignore_ascii_case(value), "{name} is {is}");
        }
        assert!(options.iter().any(|option| option == "UpdateHostKeys=no"));
        for name in ["localforward", "remoteforward", "dynamicforward"] {
            assert_eq!(ours.setting(name), None, "{name}");
        }
    }

    #[test]
    fn an_older_ssh_is_not_given_options_that_it_would_refuse() {
        let older = Resolved::of("gpu", 22);
        let names: Vec<_> = options(&older)
            .iter()
            .map(|option| option.split('=').next().unwrap().to_owned())
            .collect();
        for newer in [
            "ForkAfterAuthentication",
            "SessionType",
            "StdinNull",
            "ChannelTimeout",
        ] {
            assert!(!names.iter().any(|name| name == newer), "{newer}");
        }
        assert!(names.iter().any(|name| name == "LogLevel"));
    }

    #[test]
    fn each_rule_is_there_once_and_says_why() {
        let mut names: Vec<_> = CONNECTION.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(CONNECTION.iter().all(|rule| !rule.why.is_empty()));
    }
}
