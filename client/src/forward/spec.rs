//! Parses `-L`.

use std::fmt;

use jq_common::protocol::target::{Address, Scope, Target};

/// A forwarded port: a listener on this machine and a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Requested TCP port on the loopback of this machine.
    pub local: u16,
    /// Destination of its connections.
    pub target: Target,
}

/// Why a `-L` is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A port is not a number from 1 to 65535.
    #[error("`{0}` is not a port (1 to 65535)")]
    Port(String),
    /// A host name is empty, or contains invalid characters.
    #[error("`{0}` is not a host name or address")]
    Host(String),
    /// Listening on other addresses than the loopback would expose the container to the network.
    #[error(
        "listening on `{0}` is not supported: forwarded ports are for this machine only (127.0.0.1 and ::1)"
    )]
    Bind(String),
    /// Wrong number of parts.
    #[error("expected PORT, LPORT:PORT or LPORT:HOST:PORT, found {0} parts")]
    Parts(usize),
}

impl Forward {
    /// Parses `PORT`, `LPORT:PORT`, `LPORT:HOST:PORT` or, as ssh does, `localhost:LPORT:HOST:PORT`. IPv6 addresses need
    /// brackets.
    ///
    /// # Errors
    /// A [`SpecError`].
    pub fn parse(spec: &str) -> Result<Self, SpecError> {
        // No more than one part too many is kept, whatever there is.
        let parts: Vec<_> = split(spec).take(MOST_PARTS + 1).collect();
        let (local, target) = match parts.as_slice() {
            [both] => (port(both)?, Target::workload(port(both)?)),
            [local, remote] => (port(local)?, Target::workload(port(remote)?)),
            [local, name, remote] => (port(local)?, Target::host(host(name)?, port(remote)?)),
            [bind, local, name, remote] => {
                if !matches!(*bind, "" | "localhost" | "127.0.0.1" | "[::1]") {
                    return Err(SpecError::Bind((*bind).to_owned()));
                }
                (port(local)?, Target::host(host(name)?, port(remote)?))
            }
            _ => return Err(SpecError::Parts(split(spec).count())),
        };
        Ok(Self { local, target })
    }
}

/// Displays a target as the user would write it.
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

/// Parts of the longest form.
const MOST_PARTS: usize = 4;

/// Splits at colons outside brackets.
fn split(spec: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    spec.split(move |c| {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ => {}
        }
        c == ':' && !inside
    })
}

fn port(text: &str) -> Result<u16, SpecError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(SpecError::Port(text.to_owned())),
    }
}

fn host(text: &str) -> Result<String, SpecError> {
    let refused = || SpecError::Host(text.to_owned());
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

    fn workload(local: u16, port: u16) -> Result<Forward, SpecError> {
        Ok(Forward {
            local,
            target: Target::workload(port),
        })
    }

    fn on_host(local: u16, host: &str, port: u16) -> Result<Forward, SpecError> {
        Ok(Forward {
            local,
            target: Target::host(host, port),
        })
    }

    #[test]
    fn every_form_in_the_manual_is_parsed() {
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
    fn an_error_names_the_invalid_part() {
        assert_eq!(Forward::parse(""), Err(SpecError::Port(String::new())));
        assert_eq!(Forward::parse("0"), Err(SpecError::Port("0".to_owned())));
        assert_eq!(Forward::parse("65536"), Err(SpecError::Port("65536".to_owned())));
        assert_eq!(Forward::parse("+80"), Err(SpecError::Port("+80".to_owned())));
        assert_eq!(Forward::parse("80:a b:1"), Err(SpecError::Host("a b".to_owned())));
        assert_eq!(
            Forward::parse("80:[::1:1"),
            Err(SpecError::Port("[::1:1".to_owned()))
        );
        assert_eq!(
            Forward::parse("0.0.0.0:80:h:1"),
            Err(SpecError::Bind("0.0.0.0".to_owned()))
        );
        assert_eq!(Forward::parse("1:2:3:4:5"), Err(SpecError::Parts(5)));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_a_target_is_displayed_as_written(spec: String, local in 1u16.., port in 1u16..) {
            let _ = Forward::parse(&spec);
            let read = Forward::parse(&format!("{local}:h:{port}")).unwrap();
            proptest::prop_assert_eq!(Shown(&read.target).to_string(), format!("h:{port}"));
        }
    }
}
