//! Arguments of ssh: pure functions, so that quoting for shells and other machines can be tested.

use std::ffi::OsString;

use super::{
    chain::Hop,
    options::SshOptions,
    overruled,
    proxy_command::{Pass, command_to},
    socket::{LogFile, Socket, without_tokens},
};

/// In the background ssh fails where it would ask.
const BATCH: [&str; 1] = ["BatchMode=yes"];

/// Shell script that runs ssh until its standard input, a pipe from this process, is closed: however this process ends,
/// ssh ends too. In the subshell, `$$` is the pid of the shell, which `exec` replaces by ssh. A line says that ssh has
/// ended by itself, and that the pid may be another process's.
pub(super) const HELD: &str = "exec 3<&0
(read -r line || kill $$) <&3 3<&- >/dev/null 2>&1 &
exec \"$@\" </dev/null 3<&-";

/// As [`HELD`], but in a new session if `setsid` exists: neither ssh nor the user's ProxyCommand can open the terminal.
pub(super) const HELD_APART: &str = "exec 3<&0
(read -r line || kill $$) <&3 3<&- >/dev/null 2>&1 &
command -v setsid >/dev/null 2>&1 && set -- setsid \"$@\"
exec \"$@\" </dev/null 3<&-";

/// What [`HELD`] is told once ssh has ended.
pub(super) const HAS_ENDED: &[u8] = b"\n";

/// Where a master connection writes its log: its standard output, which is for nothing else.
const LOG: &str = "/dev/stdout";

/// Environment variable that keeps ssh from asking in a window (ssh(1)).
pub(super) const NO_WINDOWS: (&str, &str) = ("SSH_ASKPASS_REQUIRE", "never");

/// Arguments that print the settings for a host (`ssh -G`). `-N`: with ForkAfterAuthentication ssh wants a command, or none.
pub(super) fn configuration(
    options: &SshOptions,
    asked: &[String],
    destination: &super::Destination,
) -> Vec<OsString> {
    let mut arguments = vec!["-G".into(), "-N".into()];
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
        "-E".into(),
        LOG.into(),
    ];
    arguments.extend(file(options));
    // ssh uses the first value of each option: these must come before the user's.
    if let Some((through, its_socket)) = previous {
        arguments.extend(settings(&[
            format!("ProxyCommand={}", pass_on(options, through, its_socket, hop)?),
            "ProxyUseFdpass=no".to_owned(),
        ]));
    }
    arguments.extend(settings(&overruled::options(&hop.resolved)));
    if options.batch {
        arguments.extend(settings(&BATCH));
    }
    if let Some(seconds) = connect_timeout(options.batch, hop, previous.is_some()) {
        arguments.extend(settings(&[format!("ConnectTimeout={seconds}")]));
    }
    arguments.extend(settings(&hop.options));
    arguments.extend(hop.destination.arguments().into_iter().map(OsString::from));
    Some(arguments)
}

/// Timeout in seconds for a host to answer, once it is connected to. None: as the user has set it, or no limit. A
/// ProxyCommand takes the time that it takes: it may wake a machine, or ask the user.
fn connect_timeout(batch: bool, hop: &Hop, is_through: bool) -> Option<u32> {
    let resolved = &hop.resolved;
    match (is_through, batch) {
        _ if resolved.has_connect_timeout => None,
        (false, _) if resolved.proxy_command.is_some() => None,
        (false, false) => Some(30),
        (false, true) => Some(10),
        // The gateway has a limit of its own for the connection, and says when it is reached.
        (true, false) => Some(120),
        (true, true) => Some(30),
    }
}

/// Arguments of a shell over the master connection `socket`, with ssh's own messages in `log`.
pub(super) fn shell(hop: &Hop, socket: &Socket, log: &LogFile) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = over(socket).into_iter().map(OsString::from).collect();
    arguments.extend(["-o", "LogLevel=DEBUG", "-E"].map(OsString::from));
    arguments.push(log.path().into());
    arguments.extend(["-T", "--", &hop.resolved.hostname, "/bin/sh -s"].map(OsString::from));
    arguments
}

/// Arguments that ask whether the master connection `socket` is open.
pub(super) fn check(hop: &Hop, socket: &Socket) -> Vec<String> {
    let mut arguments = over(socket);
    arguments.extend(["-O", "check", "--", &hop.resolved.hostname].map(str::to_owned));
    arguments
}

/// A ProxyCommand that connects to `next` over the master connection `socket` to `through`. None if it cannot be quoted.
fn pass_on(options: &SshOptions, through: &Hop, socket: &Socket, next: &Hop) -> Option<String> {
    let mut words = vec![options.program.to_str()?.to_owned()];
    words.extend(over(socket));
    let (name, port) = (&next.resolved.hostname, next.resolved.port);
    let gateway = through.resolved.hostname.clone();
    match &next.pass {
        Pass::Forward => words.extend(["-W".into(), format!("[{name}]:{port}"), "--".into(), gateway]),
        Pass::Command(command) => {
            words.extend(["-T".into(), "--".into(), gateway, command_to(command, name, port)]);
        }
    }
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
            resolved: Resolved::of(hostname, 2222),
            options: Vec::new(),
            pass: Pass::Forward,
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
            words[..9],
            [
                "-M",
                "-N",
                "-T",
                "-S",
                "/run/jq/s-1/1",
                "-E",
                LOG,
                "-F",
                "my config"
            ]
        );
        assert_eq!(words[words.len() - 4..], ["-l", "ana", "--", "gpu"]);
        assert!(at("ForwardAgent=no") < at("ForwardAgent=yes"));
        assert!(at("ProxyCommand=ssh -F /dev/null -S /run/jq/s-1/0 ") < at("ProxyCommand=evil"));
        assert!(words.contains(&"LogLevel=DEBUG"));
    }

    #[test]
    fn a_proxy_command_and_a_gateway_may_take_longer_than_a_host_that_is_asked_directly() {
        let mut gpu = hop("gpu", "10.0.0.2");
        assert_eq!(connect_timeout(false, &gpu, false), Some(30));
        assert!(connect_timeout(false, &gpu, true) > Some(60));
        gpu.resolved.proxy_command = Some("wake-and-connect %h".to_owned());
        for batch in [false, true] {
            assert_eq!(connect_timeout(batch, &gpu, false), None);
        }
        gpu.resolved.has_connect_timeout = true;
        assert_eq!(
            connect_timeout(false, &gpu, true),
            None,
            "the user has said how long"
        );
    }

    #[test]
    fn a_gateway_passes_a_connection_on_as_the_users_proxy_command_has_it() {
        let mut gpu = hop("gpu", "10.0.0.2");
        gpu.pass = Pass::Command(["nc", "%h", "%p"].map(str::to_owned).into());
        let (gw, socket) = (hop("gw", "gw.example"), Socket::from("/run/jq/1"));
        let line = pass_on(&SshOptions::new("/run/jq"), &gw, &socket, &gpu).unwrap();
        assert!(line.ends_with("-T -- gw.example 'nc 10.0.0.2 2222'"), "{line}");
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

    /// Runs [`HELD`] for a program that has ended, whose pid may be anybody's by now. In place of a signal to it there is a
    /// file, which this waits for, or for the end of whoever would send the signal.
    fn is_signalled_after_its_end(told: bool) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let signalled = folder.path().join("signalled");
        let script = HELD.replace("kill $$", "echo $$ >\"$SIGNALLED\"");
        assert!(script.contains("SIGNALLED"));
        let mut child = Command::new("/bin/sh")
            .args(["-c", &script, "ssh", "true"])
            .env("SIGNALLED", &signalled)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut hold = child.stdin.take().unwrap();
        child.wait().unwrap();
        if told {
            // Until nobody reads it any more.
            while std::io::Write::write_all(&mut hold, HAS_ENDED).is_ok() {
                std::thread::yield_now();
            }
            return signalled.exists();
        }
        drop(hold);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !signalled.exists() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        signalled.exists()
    }

    #[test]
    fn a_pid_that_may_be_another_process_s_gets_no_signal() {
        assert!(is_signalled_after_its_end(false), "who holds ssh ends it");
        assert!(!is_signalled_after_its_end(true));
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
        let (socket, log) = (Socket::from("/run/50%/1"), LogFile::from("/run/50%/log"));
        let arguments = shell(&hop("gpu", "10.0.0.2"), &socket, &log);
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
