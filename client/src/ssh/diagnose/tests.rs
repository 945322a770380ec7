//! Verbatim messages of OpenSSH 9.2, and the failures that result.

use std::os::unix::process::ExitStatusExt;

use super::*;

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

const PLACE: Place<'_> = Place {
    name: "gpu",
    by_hand: "ssh gpu",
    hostname: "gpu.example.org",
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
            "Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures\nDisconnected from 127.0.0.1 port 22",
            Kind::LoginRefused,
            "too many keys",
            "`IdentitiesOnly yes` for gpu",
        ),
        (
            CHANGED,
            Kind::HostKeyChanged,
            "/home/a/.ssh/known_hosts:1",
            "ssh-keygen -f \"/home/a/.ssh/known_hosts\" -R",
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
            "/bin/bash: line 1: /no/such: No such file or directory\n\
             kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535",
            Kind::Unreachable,
            "/no/such: No such file",
            "ProxyCommand",
        ),
        (
            "command-line: line 0: Bad configuration option: foo",
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
        let failure = connection(PLACE, &lines(text), Some(ExitStatus::from_raw(255 << 8)));
        assert_eq!(failure.kind, kind, "{text}\n{failure}");
        assert!(failure.why.contains(why), "{text}\n{failure}");
        assert!(failure.hint.contains(hint), "{text}\n{}", failure.hint);
        assert_eq!(failure.host.as_deref(), Some("gpu"));
    }
}

#[test]
fn an_end_without_a_message_is_reported_with_its_status() {
    let failure = connection(PLACE, &[], Some(ExitStatus::from_raw(255 << 8)));
    assert!(failure.why.contains("exit status 255"), "{failure}");
    assert_eq!(
        connection(PLACE, &[], Some(ExitStatus::from_raw(2))).kind,
        Kind::Interrupted
    );
    assert!(
        connection(PLACE, &[], Some(ExitStatus::from_raw(9)))
            .why
            .contains("signal 9")
    );
}

#[test]
fn the_failing_host_of_a_chain_is_named() {
    let refused = lines(
        "Stdio forwarding request failed: Session open refused by peer\n\
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
        let said = lines(said);
        let place = Place {
            through: Some(("gw", &said)),
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
        name: "gw",
        on_the_way_to: Some("gpu"),
        ..PLACE
    };
    let failure = connection(place, &lines("a@gw: Permission denied (publickey)."), None);
    assert_eq!(
        failure.to_string(),
        "gw: cannot log in: a@gw: Permission denied (publickey). (it is on the way to gpu)"
    );
}

#[test]
fn a_shell_that_ends_early_is_explained() {
    let ended = |code: i32| Some(ExitStatus::from_raw(code << 8));
    for (text, status, printed, kind, why) in [
        (
            "",
            ended(1),
            "This account is currently not available.",
            Kind::NoShell,
            "not available",
        ),
        (
            "",
            ended(0),
            "hello there",
            Kind::NoShell,
            "instead of a shell: hello there",
        ),
        ("", ended(1), "", Kind::NoShell, "exit status 1"),
        (
            "sh: 1: /bin/sh: not found",
            ended(127),
            "",
            Kind::NoShell,
            "no /bin/sh",
        ),
        (
            "mux_client_request_session: session request failed: Session open refused by peer\n\
             kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535",
            ended(255),
            "",
            Kind::NoShell,
            "refuses sessions",
        ),
        (
            "kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535",
            ended(255),
            "",
            Kind::ConnectionLost,
            "onnection closed",
        ),
        ("Killed by signal 2.", ended(255), "", Kind::Interrupted, ""),
    ] {
        let failure = shell("gpu", &lines(text), status, printed);
        assert_eq!(failure.kind, kind, "{text} {printed}: {failure}");
        assert!(failure.why.contains(why), "{failure}");
        assert_eq!(failure.host.as_deref(), Some("gpu"));
    }
}

proptest::proptest! {
    #[test]
    fn no_lines_panic(lines: Vec<String>, said: Vec<String>) {
        let _ = connection(Place { through: Some(("gw", &said)), ..PLACE }, &lines, None);
        let _ = shell("gpu", &lines, None, "");
    }
}
