//! Arguments of ssh: pure functions, so that quoting for shells and other machines can be tested.

use std::ffi::OsString;

use super::{
    chain::Hop,
    options::SshOptions,
    socket::{Socket, without_tokens},
};

/// A master connection only multiplexes sessions and forwards connections to the next host. It has no shell of its own
/// (a gateway may forbid one), and ignores whatever the user's configuration would forward, run or keep.
const CONNECTION: [&str; 11] = [
    "ControlPersist=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "ExitOnForwardFailure=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "Tunnel=no",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
];

/// In the background ssh fails where it would ask.
const BATCH: [&str; 1] = ["BatchMode=yes"];

/// Timeout in seconds, unless the user's configuration sets one.
const CONNECT_TIMEOUT: &str = "ConnectTimeout=15";

/// The same in the background.
const BATCH_CONNECT_TIMEOUT: &str = "ConnectTimeout=10";

/// Shell script that runs ssh until its standard input, a pipe from this process, is closed: however this process ends,
/// ssh ends too. In the subshell, `$$` is the pid of the shell, which `exec` replaces by ssh.
pub(super) const HELD: &str = "exec 3<&0
(while read -r line; do :; done; kill $$) <&3 3<&- >/dev/null 2>&1 &
exec \"$@\" </dev/null 3<&-";

/// As [`HELD`], but in a new session if `setsid` exists: neither ssh nor the user's ProxyCommand can open the terminal.
pub(super) const HELD_APART: &str = "exec 3<&0
(while read -r line; do :; done; kill $$) <&3 3<&- >/dev/null 2>&1 &
command -v setsid >/dev/null 2>&1 && set -- setsid \"$@\"
exec \"$@\" </dev/null 3<&-";

/// Environment variable that keeps ssh from asking in a window (ssh(1)).
pub(super) const NO_WINDOWS: (&str, &str) = ("SSH_ASKPASS_REQUIRE", "never");

/// Arguments that print the settings for a host (`ssh -G`).
pub(super) fn configuration(
    options: &SshOptions,
    asked: &[String],
    destination: &super::Destination,
) -> Vec<OsString> {
    let mut arguments = vec!["-G".into()];
    arguments.extend(file(options));
    arguments.extend(settings(asked));
    arguments.extend(destination.arguments().into_iter().map(OsString::from));
    arguments
}

/// Arguments of the master connection to `hop`, through the master connection `previous` if there is one.
pub(super) fn connection(
    options: &SshOptions,
    hop: &Hop,
    socket: &Socket,
    previous: Option<(&Hop, &Socket)>,
) -> Option<Vec<OsString>> {
    let mut arguments: Vec<OsString> = vec![
        "-M".into(),
        "-N".into(),
        "-T".into(),
        "-S".into(),
        socket.escaped().into(),
    ];
    arguments.extend(file(options));
    // ssh uses the first value of each option: these must come before the user's.
    if let Some((through, its_socket)) = previous {
        arguments.extend(settings(&[
            format!("ProxyCommand={}", pass_on(options, through, its_socket, hop)?),
            "ProxyUseFdpass=no".to_owned(),
        ]));
    }
    arguments.extend(settings(&CONNECTION));
    if options.batch {
        arguments.extend(settings(&BATCH));
    }
    if !hop.resolved.has_connect_timeout {
        arguments.extend(settings(&[if options.batch {
            BATCH_CONNECT_TIMEOUT
        } else {
            CONNECT_TIMEOUT
        }]));
    }
    arguments.extend(settings(&hop.options));
    arguments.extend(hop.destination.arguments().into_iter().map(OsString::from));
    Some(arguments)
}

/// Arguments of a shell over the master connection `socket`.
pub(super) fn shell(hop: &Hop, socket: &Socket) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = over(socket).into_iter().map(OsString::from).collect();
    arguments.extend(["-T", "--", &hop.resolved.hostname, "/bin/sh -s"].map(OsString::from));
    arguments
}

/// A ProxyCommand that connects to `next` over the master connection `socket` to `through`. None if it cannot be quoted.
fn pass_on(options: &SshOptions, through: &Hop, socket: &Socket, next: &Hop) -> Option<String> {
    let mut words = vec![options.program.to_str()?.to_owned()];
    words.extend(over(socket));
    words.extend([
        "-W".to_owned(),
        format!("[{}]:{}", next.resolved.hostname, next.resolved.port),
        "--".to_owned(),
        through.resolved.hostname.clone(),
    ]);
    let line = shlex::try_join(words.iter().map(String::as_str)).ok()?;
    Some(without_tokens(&line))
}

/// Arguments that use the master connection `socket` and nothing else: ssh reads no configuration, and without the master
/// it fails instead of connecting by itself.
fn over(socket: &Socket) -> Vec<String> {
    let mut words: Vec<String> = ["-F", "/dev/null", "-S"].map(str::to_owned).into();
    words.push(socket.escaped());
    for option in ["BatchMode=yes", "ControlMaster=no", "ProxyCommand=false"] {
        words.extend(["-o".to_owned(), option.to_owned()]);
    }
    words
}

fn file(options: &SshOptions) -> Vec<OsString> {
    match &options.config {
        Some(path) => vec!["-F".into(), path.into()],
        None => Vec::new(),
    }
}

fn settings<S: AsRef<str>>(options: &[S]) -> Vec<OsString> {
    options
        .iter()
        .flat_map(|o| [OsString::from("-o"), OsString::from(o.as_ref())])
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::ssh::{Destination, config::Resolved};

    fn hop(host: &str, hostname: &str) -> Hop {
        Hop {
            destination: Destination::target(host).unwrap(),
            resolved: Resolved {
                hostname: hostname.to_owned(),
                user: "ana".to_owned(),
                port: 2222,
                proxy_jump: None,
                proxy_command: None,
                has_connect_timeout: false,
            },
            options: Vec::new(),
        }
    }

    fn words(arguments: &[OsString]) -> Vec<&str> {
        arguments.iter().map(|a| a.to_str().unwrap()).collect()
    }

    #[test]
    fn options_that_forward_run_or_keep_anything_come_before_the_users() {
        let mut gpu = hop("ana@gpu", "10.0.0.2");
        gpu.options = vec!["ForwardAgent=yes".into(), "ProxyCommand=evil".into()];
        let options = SshOptions {
            config: Some("my config".into()),
            ..SshOptions::new("/run/jq")
        };
        let through = (&hop("gw", "gw.example"), &Socket::from("/run/jq/s-1/0"));
        let arguments = connection(&options, &gpu, &Socket::from("/run/jq/s-1/1"), Some(through)).unwrap();
        let words = words(&arguments);
        let at = |text: &str| {
            words
                .iter()
                .position(|w| w.starts_with(text))
                .unwrap_or_else(|| panic!("{text}"))
        };
        assert_eq!(
            words[..7],
            ["-M", "-N", "-T", "-S", "/run/jq/s-1/1", "-F", "my config"]
        );
        assert_eq!(words[words.len() - 4..], ["-l", "ana", "--", "gpu"]);
        assert!(at("ForwardAgent=no") < at("ForwardAgent=yes"));
        assert!(at("ProxyCommand=ssh -F /dev/null -S /run/jq/s-1/0 ") < at("ProxyCommand=evil"));
        assert!(words.contains(&CONNECT_TIMEOUT));
    }

    #[test]
    fn in_the_background_ssh_asks_nothing() {
        let mut gpu = hop("gpu", "10.0.0.2");
        gpu.options = vec!["BatchMode=no".into()];
        let arguments = |batch, gpu: &Hop| {
            let options = SshOptions {
                batch,
                ..SshOptions::new("/run/jq")
            };
            let arguments = connection(&options, gpu, &Socket::from("/run/jq/s-1/1"), None).unwrap();
            words(&arguments)
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let in_background = arguments(true, &gpu);
        let at = |text: &str| in_background.iter().position(|word| word == text);
        assert!(at("BatchMode=yes").unwrap() < at("BatchMode=no").unwrap());
        assert!(at(BATCH_CONNECT_TIMEOUT).is_some() && at(CONNECT_TIMEOUT).is_none());
        let attended = arguments(false, &gpu);
        assert!(!attended.iter().any(|word| word == "BatchMode=yes"));
        gpu.resolved.has_connect_timeout = true;
        for batch in [false, true] {
            let own = arguments(batch, &gpu);
            assert!(
                !own.iter().any(|word| word.starts_with("ConnectTimeout")),
                "{own:?}"
            );
        }
    }

    #[test]
    fn in_the_background_ssh_has_no_terminal_and_ends_with_its_input() {
        let mut child = Command::new("/bin/sh")
            .args(["-c", HELD_APART, "ssh", "/bin/sh", "-c"])
            .arg("echo $$ $(cut -d' ' -f6 /proc/$$/stat); exec sleep 600")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut said).unwrap();
        let words: Vec<_> = said.split_whitespace().collect();
        assert_eq!(
            words[0],
            child.id().to_string(),
            "it stays the process that was started"
        );
        let setsid = Command::new("/bin/sh")
            .args(["-c", "command -v setsid"])
            .output()
            .unwrap();
        if setsid.status.success() {
            assert_eq!(words[1], words[0], "a session of its own");
        } else {
            crate::not_run::not_run("there is no setsid");
        }
        drop(child.stdin.take());
        let status = child.wait().unwrap();
        assert!(!status.success());
    }

    #[test]
    fn a_shell_uses_the_master_connection_and_nothing_else() {
        let arguments = shell(&hop("gpu", "10.0.0.2"), &Socket::from("/run/50%/1"));
        let words = words(&arguments);
        assert_eq!(words[..4], ["-F", "/dev/null", "-S", "/run/50%%/1"]);
        assert!(words.contains(&"ProxyCommand=false") && words.contains(&"ControlMaster=no"));
        assert_eq!(words[words.len() - 3..], ["--", "10.0.0.2", "/bin/sh -s"]);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn a_proxy_command_survives_the_shell_unchanged(path in "/[^\0\n]{0,40}", name in "[a-z:.%]{1,10}") {
            let (through, next) = (hop("gw", "gw.example"), hop("gpu", &name));
            let options = SshOptions::new("/run/jq");
            let Some(line) = pass_on(&options, &through, &Socket::from(path.as_str()), &next) else { return Ok(()) };
            // ssh replaces %% by % before it passes the line to a shell, and again in the argument of -S.
            let line = line.replace("%%", "%");
            let output = Command::new("/bin/sh").arg("-c").arg(format!("printf '%s\\n' {line}")).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            let words: Vec<_> = said.trim_end_matches('\n').split('\n').collect();
            let escaped = without_tokens(&path);
            let target = format!("[{name}]:2222");
            proptest::prop_assert_eq!(&words[..5], &["ssh", "-F", "/dev/null", "-S", &escaped]);
            proptest::prop_assert_eq!(&words[words.len() - 4..], &["-W", &target, "--", "gw.example"]);
        }
    }
}
