//! Verbatim messages of OpenSSH 9.2, and the failures that result.

use std::os::unix::process::ExitStatusExt;

use super::*;
use crate::ssh::log::Log;

/// Lines of ssh's log; those that begin with `stderr: ` are of standard error.
fn words(text: &str) -> Words {
    let mut words = Words::default();
    for line in text.lines() {
        match line.strip_prefix("stderr: ") {
            Some(line) => words.said.push_back(line.to_owned()),
            None => drop(words.log.push(line)),
        }
    }
    words
}

/// The log up to the moment when the host has shown that it has the right key.
const VERIFIED: &str = "debug1: Remote protocol version 2.0, remote software version OpenSSH_9.2p1\n\
                        debug1: SSH2_MSG_SERVICE_ACCEPT received\n";

const PLACE: Place<'_> = Place {
    name: "gpu",
    by_hand: "ssh gpu",
    hostname: "gpu.example.org",
    known_as: "[gpu.example.org]:2222",
    through: None,
    on_the_way_to: None,
};

const CHANGED: &str = r#"@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Someone could be eavesdropping on you right now (man-in-the-middle attack)!
It is also possible that a host key has just been changed.
The fingerprint for the ED25519 key sent by the remote host is
SHA256:wGXU7yq06/a9zwefJFg13dSx6DtoA3cOmx/oSXUspe8.
Please contact your system administrator.
Add correct host key in /home/a/.ssh/known_hosts to get rid of this message.
Offending ED25519 key in /home/a/.ssh/known_hosts:1
  remove with:
  ssh-keygen -f "/home/a/.ssh/known_hosts" -R "[127.0.0.1]:42201"
Host key for [127.0.0.1]:42201 has changed and you have requested strict checking.
Host key verification failed."#;

#[test]
fn a_connection_that_fails_is_explained() {
    for (text, kind, why, hint) in [
        (
            "ssh: Could not resolve hostname gpu: Name or service not known",
            Kind::UnknownHost,
            "Could not resolve hostname gpu",
            "~/.ssh/config",
        ),
        (
            "ssh: Could not resolve hostname gpu: Temporary failure in name resolution",
            Kind::Unreachable,
            "Temporary failure",
            "this machine's network",
        ),
        (
            "ssh: connect to host 127.0.0.1 port 1: Connection refused",
            Kind::Unreachable,
            "connect to host 127.0.0.1 port 1: Connection refused",
            "nothing listens on the port",
        ),
        (
            "ssh: connect to host 10.0.0.1 port 22: Connection timed out",
            Kind::Unreachable,
            "timed out",
            "firewall",
        ),
        (
            "ssh: connect to host 10.0.0.1 port 22: No route to host",
            Kind::Unreachable,
            "No route",
            "VPN",
        ),
        (
            "ssh: connect to host 10.0.0.1 port 22: Network is unreachable",
            Kind::Unreachable,
            "unreachable",
            "network",
        ),
        (
            "Connection timed out during banner exchange\nConnection to 127.0.0.1 port 42299 timed out",
            Kind::Unreachable,
            "banner exchange",
            "try `ssh gpu`",
        ),
        (
            "root@127.0.0.1: Permission denied (publickey,keyboard-interactive).",
            Kind::LoginRefused,
            "Permission denied (publickey",
            "`ssh gpu -v` shows which keys",
        ),
        (
            "Load key \"/home/a/.ssh/id\": error in libcrypto\nroot@gpu: Permission denied (publickey).",
            Kind::LoginRefused,
            "Load key",
            "ssh gpu",
        ),
        (
            "debug1: SSH2_MSG_SERVICE_ACCEPT received\ndebug1: Offering public key: /a ED25519 SHA256:x agent\n\
             debug1: Offering public key: /b ED25519 SHA256:y agent\n\
             Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures\nDisconnected from 127.0.0.1 port 22",
            Kind::LoginRefused,
            "offered 2 keys, too many",
            "`IdentitiesOnly yes` for gpu",
        ),
        (
            CHANGED,
            Kind::HostKeyChanged,
            "/home/a/.ssh/known_hosts:1",
            "ssh-keygen -f /home/a/.ssh/known_hosts -R '[gpu.example.org]:2222'",
        ),
        (
            "Host key verification failed.",
            Kind::HostKeyUnknown,
            "was not accepted",
            "ssh gpu",
        ),
        (
            "No ED25519 host key is known for [127.0.0.1]:42201 and you have requested strict checking.\n\
             Host key verification failed.",
            Kind::HostKeyUnknown,
            "configured to refuse",
            "ssh gpu",
        ),
        (
            "Unable to negotiate with 127.0.0.1 port 42201: no matching key exchange method found. Their offer: a",
            Kind::Unreachable,
            "no matching key exchange",
            "no algorithm in common",
        ),
        (
            "kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535",
            Kind::Unreachable,
            "onnection closed",
            "ProxyCommand",
        ),
        (
            "stderr: /bin/bash: line 1: /no/such: No such file or directory\n\
             kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535",
            Kind::Unreachable,
            "/no/such: No such file",
            "ProxyCommand",
        ),
        (
            "stderr: command-line: line 0: Bad configuration option: foo",
            Kind::Usage,
            "option: foo",
            "-F",
        ),
        (
            "Bad owner or permissions on /home/a/.ssh/config",
            Kind::Usage,
            "Bad owner",
            "config",
        ),
        ("jumphost loop via gpu", Kind::Usage, "loop via gpu", "config"),
        ("Killed by signal 2.", Kind::Interrupted, "", ""),
        ("something new", Kind::Unreachable, "something new", "ssh gpu -v"),
    ] {
        let failure = connection(PLACE, &words(text), Some(ExitStatus::from_raw(255 << 8)));
        assert_eq!(failure.kind, kind, "{text}\n{failure}");
        assert!(failure.why.contains(why), "{text}\n{failure}");
        assert!(failure.hint.contains(hint), "{text}\n{}", failure.hint);
        assert_eq!(failure.host.as_deref(), Some("gpu"));
    }
}

#[test]
fn an_end_without_a_message_is_reported_with_its_status() {
    let failure = connection(PLACE, &Words::default(), Some(ExitStatus::from_raw(255 << 8)));
    assert!(failure.why.contains("exit status 255"), "{failure}");
    assert_eq!(
        connection(PLACE, &Words::default(), Some(ExitStatus::from_raw(2))).kind,
        Kind::Interrupted
    );
    assert!(
        connection(PLACE, &Words::default(), Some(ExitStatus::from_raw(9)))
            .why
            .contains("signal 9")
    );
}

#[test]
fn the_failing_host_of_a_chain_is_named() {
    let refused = words(
        "stderr: Stdio forwarding request failed: Session open refused by peer\n\
         kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535",
    );
    for (said, kind, host, why) in [
        (
            "channel 2: open failed: connect failed: Connection refused",
            Kind::Unreachable,
            "gpu",
            "gw cannot connect to gpu.example.org: Connection refused",
        ),
        (
            "channel 2: open failed: connect failed: Name or service not known",
            Kind::UnknownHost,
            "gpu",
            "gw cannot connect to gpu.example.org: Name or service not known",
        ),
        (
            "channel 2: open failed: administratively prohibited: open failed",
            Kind::Unreachable,
            "gw",
            "its sshd does not allow forwarding to gpu.example.org",
        ),
        ("", Kind::Unreachable, "gpu", "gw did not forward the connection"),
    ] {
        let log = Log::from(said);
        let place = Place {
            through: Some(("gw", Some(&log))),
            ..PLACE
        };
        let failure = connection(place, &refused, None);
        assert_eq!(
            (failure.kind, failure.host.as_deref()),
            (kind, Some(host)),
            "{failure}"
        );
        assert!(failure.why.contains(why), "{failure}");
    }
    let place = Place {
        through: Some(("gw", None)),
        ..PLACE
    };
    let failure = connection(place, &refused, None);
    assert!(failure.why.contains("gw did not forward"), "{failure}");
    let place = Place {
        name: "gw",
        on_the_way_to: Some("gpu"),
        ..PLACE
    };
    let failure = connection(place, &words("a@gw: Permission denied (publickey)."), None);
    assert_eq!(
        failure.to_string(),
        "gw: cannot log in: Permission denied (publickey) (it is on the way to gpu)"
    );
}

#[test]
fn what_a_host_prints_is_no_diagnosis() {
    let imitation: String = CHANGED
        .lines()
        .chain([
            "Too many authentication failures",
            "ssh: connect to host gpu port 22: Connection refused",
        ])
        .map(|line| format!("stderr: {line}\n"))
        .collect();
    let text = format!("{VERIFIED}{imitation}a@gpu: Permission denied (publickey,evil; curl x).");
    let failure = connection(PLACE, &words(&text), None);
    assert_eq!(failure.kind, Kind::LoginRefused);
    assert_eq!(failure.why, "Permission denied (publickey,evilcurlx)");
    assert!(!failure.hint.contains("ssh-keygen"), "{}", failure.hint);

    // The same with a log to which the host has added: questions in its own words, and a farewell.
    let asks = format!(
        "{VERIFIED}debug1: Next authentication method: keyboard-interactive\n{CHANGED}\na@gpu: Permission denied (x)."
    );
    assert_eq!(connection(PLACE, &words(&asks), None).kind, Kind::LoginRefused);
    let farewell = format!("{VERIFIED}Received disconnect from 1.2.3.4 port 22:2: bye\n{CHANGED}");
    let failure = connection(PLACE, &words(&farewell), None);
    assert_eq!(failure.kind, Kind::LoginRefused);
    assert_eq!(failure.why, "the host says: \"bye\"");
}

#[test]
fn a_key_that_was_right_is_not_wrong_later() {
    let text = format!("{VERIFIED}{CHANGED}");
    assert_ne!(connection(PLACE, &words(&text), None).kind, Kind::HostKeyChanged);
}

#[test]
fn a_login_that_ends_after_the_key_was_taken_is_the_accounts_fault() {
    let end = format!(
        "{VERIFIED}debug1: Server accepts key: /a ED25519 SHA256:x agent\nConnection closed by 10.0.0.2 port 22\n"
    );
    let failure = connection(PLACE, &words(&end), None);
    assert_eq!(failure.kind, Kind::LoginRefused);
    assert!(failure.hint.contains("expired"), "{}", failure.hint);
    for (said, what) in [
        (
            "Your account has expired; please contact your system administrator",
            "your account on gpu has expired",
        ),
        ("Your password has expired.", "your password on gpu has expired"),
    ] {
        let failure = connection(PLACE, &words(&format!("{end}stderr: {said}")), None);
        assert_eq!((failure.kind, failure.what.as_str()), (Kind::LoginRefused, what));
    }
}

const OPENED: &str = "debug1: mux_client_request_session: master session id: 2\n";

fn ended(text: &str, code: i32, printed: &str) -> Failure {
    let shell = EndedShell {
        host: "gpu",
        status: Some(ExitStatus::from_raw(code << 8)),
        printed,
        nonce: Some("0123456789abcdef"),
    };
    ended_shell(shell, &words(text))
}

#[test]
fn a_shell_that_ends_early_is_explained() {
    let refused = "mux_client_request_session: session request failed: Session open refused by peer\n\
        kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535";
    let gone = "kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535";
    let opened = |more: &str| format!("{OPENED}{more}");
    for (text, code, printed, kind, why) in [
        (
            opened(""),
            1,
            "This account is currently not available.",
            Kind::NoShell,
            "the host says: \"This account is currently not available.\"",
        ),
        (
            opened(""),
            0,
            "hello there",
            Kind::NoShell,
            "the host says: \"hello there\"",
        ),
        (opened(""), 1, "", Kind::NoShell, "exit status 1"),
        (
            opened("stderr: sh: 1: /bin/sh: not found"),
            127,
            "",
            Kind::NoShell,
            "no /bin/sh",
        ),
        (refused.to_owned(), 255, "", Kind::NoShell, "refuses sessions"),
        (gone.to_owned(), 255, "", Kind::ConnectionLost, "onnection closed"),
        ("Killed by signal 2.".to_owned(), 255, "", Kind::Interrupted, ""),
        // A host that imitates ssh has a shell problem all the same.
        (
            opened(
                "stderr: mux_client_request_session: session request failed\nstderr: Connection closed by UNKNOWN port 65535",
            ),
            1,
            "",
            Kind::NoShell,
            "the host says",
        ),
    ] {
        let failure = ended(&text, code, printed);
        assert_eq!(failure.kind, kind, "{text} {printed}: {failure}");
        assert!(failure.why.contains(why), "{failure}");
        assert_eq!(failure.host.as_deref(), Some("gpu"));
        assert!(!failure.hint.contains("ForceCommand"), "{}", failure.hint);
    }
}

#[test]
fn an_expired_password_is_named_in_our_own_words() {
    let text = format!(
        "{OPENED}stderr: WARNING: Your password has expired.\nstderr: Password change required but no TTY available."
    );
    let failure = ended(&text, 1, "");
    assert_eq!(failure.what, "your password on gpu has expired");
    assert_eq!(
        failure.hint,
        "log in with `ssh gpu` and change it, then connect again"
    );
    assert!(failure.needs_user());
}

#[test]
fn our_own_script_is_not_shown_and_who_read_it_is_named() {
    let script = "fish: Unsupported use of '='. In fish, please use 'set nonce 0123456789abcdef'.";
    let failure = ended(&format!("{OPENED}stderr: {script}"), 127, "");
    assert!(failure.why.starts_with("fish reads"), "{failure}");
    assert!(failure.hint.contains("~/.bashrc"), "{}", failure.hint);
    let echoed = silent(
        "gpu",
        "nonce='0123456789abcdef' role='serve'",
        &words(OPENED),
        "0123456789abcdef",
    );
    assert!(echoed.why.starts_with("something else reads"), "{echoed}");
    for failure in [failure, echoed] {
        assert!(
            !format!("{failure} {}", failure.hint).contains("nonce"),
            "{failure}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_lines_panic(lines: Vec<String>, said: Vec<String>) {
        let mut words = Words::default();
        for line in &lines {
            words.log.push(line);
        }
        words.said.extend(said);
        let _ = connection(Place { through: Some(("gw", Some(&words.log))), ..PLACE }, &words, None);
        let shell = EndedShell { host: "gpu", status: None, printed: "", nonce: Some("0") };
        let _ = ended_shell(shell, &words);
        let _ = silent("gpu", "", &words, "0");
    }
}
