//! A ProxyCommand that is a jump in other words: `ssh gw -W %h:%p`, `ssh gw nc %h %p`. Pure.

use super::Destination;

/// How a gateway passes a connection on to the next host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Its sshd forwards it (`-W`).
    #[default]
    Forward,
    /// A command there does; `%h` and `%p` stand for the next host's name and port.
    Command(Vec<String>),
}

/// A jump host, as a ProxyCommand names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Jump {
    pub(super) destination: Destination,
    /// Options for the connection to it (`KEY=VALUE`).
    pub(super) options: Vec<String>,
    pub(super) pass: Pass,
}

/// What the options of an ssh command come to.
#[derive(Default)]
struct Options {
    forward: Option<String>,
    user: Option<String>,
    port: Option<String>,
    settings: Vec<String>,
}

/// The jump that `command` makes. None: it does something else, or something that is not understood. `expand` replaces the
/// tokens that ssh_config(5) permits in names.
pub(super) fn jump(command: &str, expand: impl Fn(&str) -> String) -> Option<Jump> {
    // What a shell would do more than split it into words.
    if command.contains(['$', '`', '|', ';', '&', '<', '(', ')', '*', '?', '#', '\n']) {
        return None;
    }
    let mut words = shlex::split(command)?;
    words.retain(|word| word != "2>/dev/null");
    if words.iter().any(|word| word.contains('>')) {
        return None;
    }
    let mut words = words.into_iter().skip_while(|word| word == "exec").peekable();
    let program = words.next()?;
    if program.rsplit('/').next() != Some("ssh") {
        return None;
    }
    let mut options = Options::default();
    options.take(&mut words)?;
    let host = words.next()?;
    options.take(&mut words)?;
    let rest: Vec<_> = words.skip_while(|word| word == "--").collect();
    let pass = match options.forward.as_deref() {
        Some("%h:%p" | "[%h]:%p") if rest.is_empty() => Pass::Forward,
        None if is_passing_on(&rest) => Pass::Command(rest),
        _ => return None,
    };
    Some(Jump {
        destination: options.destination(&expand(&host))?,
        options: options.settings.iter().map(|setting| expand(setting)).collect(),
        pass,
    })
}

/// A command of plain words that is told the next host and its port.
fn is_passing_on(words: &[String]) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=%[]@".contains(c);
    let tokens = words.iter().flat_map(|word| word.split('%').skip(1));
    words.iter().all(|word| word.chars().all(is_plain))
        && tokens.clone().all(|token| token.starts_with(['h', 'p']))
        && ['h', 'p']
            .iter()
            .all(|name| tokens.clone().any(|token| token.starts_with(*name)))
}

impl Options {
    /// Takes the options that come next. None: one is not understood.
    fn take(&mut self, words: &mut std::iter::Peekable<impl Iterator<Item = String>>) -> Option<()> {
        while let Some(cluster) =
            words.next_if(|word| word.len() > 1 && word.starts_with('-') && word != "--")
        {
            for (at, letter) in cluster[1..].char_indices() {
                match letter {
                    'q' | 'v' | 'T' | 'x' | 'a' | 'A' | 'C' | 'n' | 'k' | 'Y' | 'X' => continue,
                    '4' => self.settings.push("AddressFamily=inet".to_owned()),
                    '6' => self.settings.push("AddressFamily=inet6".to_owned()),
                    'W' | 'l' | 'p' | 'i' | 'o' | 'J' | 'e' | 'S' => {
                        let attached = &cluster[1 + at + letter.len_utf8()..];
                        let value = if attached.is_empty() {
                            words.next()?
                        } else {
                            attached.to_owned()
                        };
                        self.set(letter, value);
                        break;
                    }
                    _ => return None,
                }
            }
        }
        Some(())
    }

    fn set(&mut self, letter: char, value: String) {
        match letter {
            'W' => self.forward = Some(value),
            'l' => self.user = Some(value),
            'p' => self.port = Some(value),
            'i' => self.settings.push(format!("IdentityFile={value}")),
            'J' => self.settings.push(format!("ProxyJump={value}")),
            'S' => self.settings.push(format!("ControlPath={value}")),
            'o' => self.settings.push(value),
            _ => {}
        }
    }

    fn destination(&self, host: &str) -> Option<Destination> {
        if self.user.is_none() && self.port.is_none() {
            return Destination::target(host).ok();
        }
        if host.starts_with("ssh://") {
            return None;
        }
        let (user, host) = match host.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, host),
        };
        // Of two users ssh takes the first, which is the option in most cases, and refuses to guess in the others.
        let user = match (&self.user, user) {
            (Some(_), Some(_)) => return None,
            (Some(user), None) => Some(user.as_str()),
            (None, user) => user,
        };
        let user = user.map_or_else(String::new, |user| format!("{user}@"));
        let port = self
            .port
            .as_ref()
            .map_or_else(String::new, |port| format!(":{port}"));
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        Destination::jump(&format!("{user}{host}{port}")).ok()
    }
}

/// The command that passes a connection on to `host` at `port`.
pub(super) fn command_to(words: &[String], host: &str, port: u16) -> String {
    let port = port.to_string();
    let word = |word: &String| word.replace("%h", host).replace("%p", &port);
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(command: &str) -> Option<(String, Vec<String>, Pass)> {
        let jump = jump(command, |text| text.replace("%r", "ana"))?;
        Some((jump.destination.written().to_owned(), jump.options, jump.pass))
    }

    #[test]
    fn an_ssh_that_forwards_or_runs_a_passing_command_is_a_jump() {
        let nc = |words: &str| Pass::Command(words.split(' ').map(str::to_owned).collect());
        for (command, destination, options, pass) in [
            ("ssh gw -W %h:%p", "gw", &[][..], Pass::Forward),
            ("ssh -W %h:%p gw", "gw", &[], Pass::Forward),
            (
                "exec /usr/bin/ssh -q -x -W [%h]:%p %r@gw 2>/dev/null",
                "ana@gw",
                &[],
                Pass::Forward,
            ),
            ("ssh -qW%h:%p -p 2222 -l bo gw", "bo@gw:2222", &[], Pass::Forward),
            (
                "ssh -o 'StrictHostKeyChecking no' -i ~/k/id -4 gw -W %h:%p",
                "gw",
                &[
                    "StrictHostKeyChecking no",
                    "IdentityFile=~/k/id",
                    "AddressFamily=inet",
                ],
                Pass::Forward,
            ),
            ("ssh gw nc %h %p", "gw", &[], nc("nc %h %p")),
            (
                "ssh -q gw nc -w 10 %h %p 2>/dev/null",
                "gw",
                &[],
                nc("nc -w 10 %h %p"),
            ),
            ("ssh gw socat - TCP:%h:%p", "gw", &[], nc("socat - TCP:%h:%p")),
            ("ssh ssh://gw:22 -W %h:%p", "ssh://gw:22", &[], Pass::Forward),
        ] {
            let options: Vec<_> = options.iter().map(|&o| o.to_owned()).collect();
            assert_eq!(
                seen(command),
                Some((destination.to_owned(), options, pass)),
                "{command}"
            );
        }
    }

    #[test]
    fn whatever_else_a_proxy_command_does_is_left_to_ssh() {
        for command in [
            "",
            "nc -X 5 -x localhost:1080 %h %p",
            "cloudflared access ssh --hostname %h",
            "ssh gw",
            "ssh gw -W other:22",
            "ssh gw -W %h:%p extra",
            "ssh gw nc %h 22",
            "ssh gw nc other %p",
            "ssh gw sh -c 'nc %h %p'",
            "ssh gw 'nc %h %p; id'",
            "ssh -F ~/other gw -W %h:%p",
            "ssh -F other gw -W %h:%p",
            "ssh gw nc %h %p | tee log",
            "ssh $(pick-gateway) -W %h:%p",
            "sh -c 'ssh gw -W %h:%p'",
            "ssh -l a b@gw -W %h:%p",
            "ssh -W",
            "ssh 'gw;id' -W %h:%p",
        ] {
            assert_eq!(seen(command), None, "{command}");
        }
    }

    #[test]
    fn the_command_is_told_the_host_and_the_port() {
        let words = ["socat", "-", "TCP:%h:%p"].map(str::to_owned);
        assert_eq!(command_to(&words, "10.0.0.2", 22), "socat - TCP:10.0.0.2:22");
    }

    proptest::proptest! {
        #[test]
        fn no_command_panics(command: String, rest in "[-a-zA-Z%:' ]{0,40}") {
            let _ = seen(&command);
            let _ = seen(&format!("ssh {rest}"));
        }
    }
}
