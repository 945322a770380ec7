//! What `-L` means.

use std::fmt;

use jq_common::protocol::target::{Address, Scope, Target};

/// One forwarded port: a listener here, a target there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// TCP port wanted on this machine's loopback.
    pub local: u16,
    /// What its connections reach.
    pub target: Target,
}

/// Why a `-L` is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// A port is no number from 1 to 65535.
    #[error("`{0}` is not a port (1 to 65535)")]
    Port(String),
    /// A host name is empty or has brackets at odd places.
    #[error("`{0}` is not a host name or address")]
    Host(String),
    /// Listening elsewhere than on loopback would give the container to the network this machine is in.
    #[error(
        "listening on `{0}` is not possible: forwarded ports are for this machine only (127.0.0.1 and ::1)"
    )]
    Bind(String),
    /// Too many parts.
    #[error("it has {0} parts where PORT, LPORT:PORT or LPORT:HOST:PORT are understood")]
    Parts(usize),
}

impl Forward {
    /// Reads `PORT`, `LPORT:PORT`, `LPORT:HOST:PORT` or, as ssh does, `localhost:LPORT:HOST:PORT`. IPv6 addresses stand
    /// in brackets.
    ///
    /// # Errors
    /// A [`ForwardError`].
    pub fn parse(spec: &str) -> Result<Self, ForwardError> {
        let parts = split(spec);
        let (local, target) = match parts.as_slice() {
            [both] => (port(both)?, Target::workload(port(both)?)),
            [local, remote] => (port(local)?, Target::workload(port(remote)?)),
            [local, name, remote] => (port(local)?, Target::host(host(name)?, port(remote)?)),
            [bind, local, name, remote] => {
                if !matches!(*bind, "" | "localhost" | "127.0.0.1" | "[::1]") {
                    return Err(ForwardError::Bind((*bind).to_owned()));
                }
                (port(local)?, Target::host(host(name)?, port(remote)?))
            }
            more => return Err(ForwardError::Parts(more.len())),
        };
        Ok(Self { local, target })
    }
}

/// The target as the user would write it.
pub struct Shown<'a>(pub &'a Target);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.address, self.0.scope) {
            (Address::Port(port), Scope::Workload) => write!(f, "port {port}"),
            (Address::Port(port), Scope::Host) => write!(f, "localhost:{port}"),
            (Address::Name { host, port }, _) if host.contains(':') => write!(f, "[{host}]:{port}"),
            (Address::Name { host, port }, _) => write!(f, "{host}:{port}"),
            (Address::Unix { path }, _) => f.write_str(path),
        }
    }
}

/// Splits at colons outside brackets.
fn split(spec: &str) -> Vec<&str> {
    let mut inside = false;
    spec.split(|c| {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ => {}
        }
        c == ':' && !inside
    })
    .collect()
}

fn port(text: &str) -> Result<u16, ForwardError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(ForwardError::Port(text.to_owned())),
    }
}

fn host(text: &str) -> Result<String, ForwardError> {
    let refused = || ForwardError::Host(text.to_owned());
    if let Some(address) = text.strip_prefix('[') {
        let address = address.strip_suffix(']').ok_or_else(refused)?;
        return address
            .parse::<std::net::Ipv6Addr>()
            .map(|ip| ip.to_string())
            .map_err(|_| refused());
    }
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if text.is_empty() || text.starts_with('-') || !plain {
        return Err(refused());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(local: u16, port: u16) -> Result<Forward, ForwardError> {
        Ok(Forward {
            local,
            target: Target::workload(port),
        })
    }

    fn on_host(local: u16, host: &str, port: u16) -> Result<Forward, ForwardError> {
        Ok(Forward {
            local,
            target: Target::host(host, port),
        })
    }

    #[test]
    fn every_form_that_the_manual_names_is_understood() {
        assert_eq!(Forward::parse("8888"), workload(8888, 8888));
        assert_eq!(Forward::parse("9999:8888"), workload(9999, 8888));
        assert_eq!(Forward::parse("5432:db.lan:5432"), on_host(5432, "db.lan", 5432));
        assert_eq!(
            Forward::parse("80:[2001:db8::1]:443"),
            on_host(80, "2001:db8::1", 443)
        );
        assert_eq!(Forward::parse("localhost:80:h:1"), on_host(80, "h", 1));
        assert_eq!(Forward::parse("[::1]:80:h:1"), on_host(80, "h", 1));
    }

    #[test]
    fn what_is_not_understood_says_which_part() {
        assert_eq!(Forward::parse(""), Err(ForwardError::Port(String::new())));
        assert_eq!(Forward::parse("0"), Err(ForwardError::Port("0".to_owned())));
        assert_eq!(
            Forward::parse("65536"),
            Err(ForwardError::Port("65536".to_owned()))
        );
        assert_eq!(Forward::parse("+80"), Err(ForwardError::Port("+80".to_owned())));
        assert_eq!(
            Forward::parse("80:a b:1"),
            Err(ForwardError::Host("a b".to_owned()))
        );
        assert_eq!(
            Forward::parse("80:[::1:1"),
            Err(ForwardError::Port("[::1:1".to_owned()))
        );
        assert_eq!(
            Forward::parse("0.0.0.0:80:h:1"),
            Err(ForwardError::Bind("0.0.0.0".to_owned()))
        );
        assert_eq!(Forward::parse("1:2:3:4:5"), Err(ForwardError::Parts(5)));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_shown_the_same(spec: String, local in 1u16.., port in 1u16..) {
            let _ = Forward::parse(&spec);
            let read = Forward::parse(&format!("{local}:h:{port}")).unwrap();
            proptest::prop_assert_eq!(Shown(&read.target).to_string(), format!("h:{port}"));
        }
    }
}
