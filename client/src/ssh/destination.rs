//! Destinations: hosts as users and ssh's configuration write them.

use std::fmt;

/// A parsed and validated ssh destination. Safe as an argument of ssh and, quoted, of a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    written: String,
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

/// Why a text is not a destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {reason}")]
pub struct BadDestination {
    text: String,
    reason: &'static str,
}

impl Destination {
    /// Parses a target: `[user@]host`, an alias of ssh's configuration, or `ssh://[user@]host[:port]`.
    ///
    /// # Errors
    /// When it could be taken for an option, contains shell metacharacters, or has a port outside of a URI.
    pub fn target(text: &str) -> Result<Self, BadDestination> {
        let bad = |reason| bad(text, reason);
        if let Some(rest) = text.strip_prefix("ssh://") {
            return Self::uri(text, rest);
        }
        let (user, host) = split_user(text);
        if host.matches(':').count() == 1 {
            return Err(bad("has a port: write it as ssh://host:port"));
        }
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        Self::checked(text, user.map(str::to_owned), host, None)
    }

    /// Parses one host of a ProxyJump list: `[user@]host[:port]`, `[user@][address]:port`, or a URI.
    ///
    /// # Errors
    /// As [`Destination::target`].
    pub fn jump(text: &str) -> Result<Self, BadDestination> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("ssh://") {
            return Self::uri(text, rest);
        }
        let (user, rest) = split_user(text);
        let (host, port) = split_port(text, rest)?;
        Self::checked(text, user.map(str::to_owned), host, port)
    }

    fn uri(text: &str, rest: &str) -> Result<Self, BadDestination> {
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') {
            return Err(bad(text, "has a path"));
        }
        let (user, rest) = split_user(rest);
        // RFC draft-ietf-secsh-scp-sftp-ssh-uri: connection parameters may follow the user; ssh ignores them.
        let user = user.map(|u| u.split(';').next().unwrap_or(u));
        let user = match user.map(percent_decoded) {
            Some(None) => return Err(bad(text, "has a malformed user name")),
            Some(Some(user)) => Some(user),
            None => None,
        };
        let (host, port) = split_port(text, rest)?;
        Self::checked(text, user, host, port)
    }

    fn checked(
        text: &str,
        user: Option<String>,
        host: &str,
        port: Option<u16>,
    ) -> Result<Self, BadDestination> {
        let bad = |reason| bad(text, reason);
        if host.is_empty() {
            return Err(bad("has no host"));
        }
        if text.starts_with('-') || host.starts_with('-') {
            return Err(bad("begins with a hyphen"));
        }
        if host.chars().any(|c| c == '\\' || is_unfit(c)) {
            return Err(bad("contains a character that is invalid in a host name"));
        }
        if let Some(user) = &user {
            if user.is_empty() || user.starts_with('-') || user.ends_with('\\') {
                return Err(bad("has a malformed user name"));
            }
            if user.chars().any(is_unfit) {
                return Err(bad("contains a character that is invalid in a user name"));
            }
        }
        Ok(Self {
            written: text.to_owned(),
            user,
            host: host.to_owned(),
            port,
        })
    }

    /// As the user wrote it.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The user name, if given.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The host name, address or alias.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if given.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Arguments for ssh, to be the last before a command.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), self.host.clone()]);
        arguments
    }
}

/// The command with which a user can connect by hand.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh ")?;
        if let Some(port) = self.port {
            write!(f, "-p {port} ")?;
        }
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)
    }
}

fn bad(text: &str, reason: &'static str) -> BadDestination {
    BadDestination {
        text: text.to_owned(),
        reason,
    }
}

/// Characters that ssh refuses since 9.6, because `%h` and `%r` reach a shell in a ProxyCommand.
fn is_unfit(c: char) -> bool {
    c.is_control() || c.is_whitespace() || "'`\"$;&<>|(){},".contains(c)
}

fn split_user(text: &str) -> (Option<&str>, &str) {
    match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    }
}

fn split_port<'a>(text: &str, rest: &'a str) -> Result<(&'a str, Option<u16>), BadDestination> {
    let (host, port) = match rest.strip_prefix('[') {
        Some(bracketed) => match bracketed.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, after)) if after.starts_with(':') => (host, Some(&after[1..])),
            _ => return Err(bad(text, "has a malformed address")),
        },
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    match port.map(str::parse::<u16>) {
        None => Ok((host, None)),
        Some(Ok(port)) if port > 0 => Ok((host, Some(port))),
        Some(_) => Err(bad(text, "has a malformed port")),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |b: u8| char::from(b).to_digit(16);
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(d: &Destination) -> (Option<&str>, &str, Option<u16>) {
        (d.user(), d.host(), d.port())
    }

    #[test]
    fn targets_are_read_as_ssh_reads_them() {
        for (text, want) in [
            ("gpu", (None, "gpu", None)),
            ("ana@gpu.example.org", (Some("ana"), "gpu.example.org", None)),
            ("ana@corp@gpu", (Some("ana@corp"), "gpu", None)),
            (r"CORP\ana@gpu", (Some(r"CORP\ana"), "gpu", None)),
            ("::1", (None, "::1", None)),
            ("fe80::1%eth0", (None, "fe80::1%eth0", None)),
            ("ssh://gpu", (None, "gpu", None)),
            ("ssh://ana@gpu:2222/", (Some("ana"), "gpu", Some(2222))),
            (
                "ssh://a%40b;fingerprint=x@[::1]:2222",
                (Some("a@b"), "::1", Some(2222)),
            ),
        ] {
            assert_eq!(parts(&Destination::target(text).unwrap()), want, "{text}");
        }
    }

    #[test]
    fn jumps_are_read_as_ssh_reads_them() {
        for (text, want) in [
            ("gw", (None, "gw", None)),
            ("ana@gw:2222", (Some("ana"), "gw", Some(2222))),
            ("[10.0.0.1]:22", (None, "10.0.0.1", Some(22))),
            ("[::1]", (None, "::1", None)),
            (" ssh://gw:1 ", (None, "gw", Some(1))),
        ] {
            assert_eq!(parts(&Destination::jump(text).unwrap()), want, "{text}");
        }
    }

    #[test]
    fn what_could_be_an_option_or_a_command_is_refused() {
        for text in [
            "",
            "-oProxyCommand=id",
            "a@-x",
            "-l@x",
            "x;id",
            "x y",
            "$(id)",
            "`id`",
            "a|b",
            "x\ny",
            "@x",
            "x@",
            "gpu:22",
            "ssh://",
            "ssh://x:0",
            "ssh://x:99999",
            "ssh://x/y",
            "ssh://-x",
            "ssh://-u@x",
            "ssh://%2@x",
            "ssh://%2do@x",
            "ssh://%ff@x",
            "a,b",
        ] {
            assert!(Destination::target(text).is_err(), "{text:?} passed");
        }
        for text in ["", ":22", "x:", "[x", "[x]y", "-x", "x:22:22"] {
            assert!(Destination::jump(text).is_err(), "{text:?} passed");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_and_nothing_dangerous_passes(text: String) {
            for destination in [Destination::target(&text), Destination::jump(&text)].into_iter().flatten() {
                proptest::prop_assert!(!destination.host().starts_with('-'));
                proptest::prop_assert!(!destination.host().contains([' ', ';', '\'', '"', '`', '$', '|', '&', '\n']));
            }
        }
    }
}
