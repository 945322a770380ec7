//! Connects to the target of a stream.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use jq_common::{
    protocol::{
        limits,
        stream::ResetCode,
        target::{Address, Scope, Target, Transport},
    },
    session::socket::Socket,
};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};
use tokio_util::either::Either;

use crate::{host_program, workload::RunningWorkload};

/// Most name lookups at once: each is a process.
static LOOKUPS: Semaphore = Semaphore::const_new(16);

/// Longest host name in bytes (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;

/// Connects to `target` within [`limits::DIAL`].
///
/// # Errors
/// The code to reset the stream with.
pub(super) async fn dial(
    target: &Target,
    workload: Option<&dyn RunningWorkload>,
) -> Result<Socket, ResetCode> {
    let connected = async {
        let Target {
            scope,
            address,
            transport: Transport::Tcp,
        } = target
        else {
            return Err(ResetCode::Unsupported);
        };
        match (scope, address) {
            (Scope::Workload, Address::Port(port)) => {
                let workload = workload.ok_or(ResetCode::NoWorkload)?;
                match workload.dial(*port).await {
                    Ok(Either::Left(tcp)) => Ok(tcp.into()),
                    Ok(Either::Right(unix)) => Ok(unix.into()),
                    Err(error) => Err(match error.kind() {
                        // There is no way into the container: it has stopped or is gone.
                        io::ErrorKind::NotConnected | io::ErrorKind::BrokenPipe => ResetCode::NoWorkload,
                        _ => code_of(&error),
                    }),
                }
            }
            (Scope::Host, Address::Name { host, port }) => dial_host(host, *port).await.map(Socket::from),
            // Not yet.
            (Scope::Workload, Address::Name { .. } | Address::Unix { .. })
            | (Scope::Host, Address::Port(_) | Address::Unix { .. }) => Err(ResetCode::Unsupported),
        }
    };
    timeout(limits::DIAL, connected)
        .await
        .unwrap_or(Err(ResetCode::TimedOut))
}

async fn dial_host(host: &str, port: u16) -> Result<TcpStream, ResetCode> {
    let addresses = addresses(host).await?;
    // Each address gets an equal share of the time, so that one that does not answer leaves time for the next.
    let share = limits::DIAL / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut code = ResetCode::Unreachable;
    for ip in addresses {
        code = match timeout(share, TcpStream::connect(SocketAddr::new(ip, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => code_of(&error),
            Err(_) => ResetCode::TimedOut,
        };
        tracing::debug!(host, %ip, port, ?code, "connect failed");
    }
    Err(code)
}

fn code_of(error: &io::Error) -> ResetCode {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ResetCode::Refused,
        io::ErrorKind::TimedOut => ResetCode::TimedOut,
        io::ErrorKind::ConnectionReset => ResetCode::ConnectionReset,
        _ => ResetCode::Unreachable,
    }
}

/// Resolves `host` to addresses, in the host's order of preference.
async fn addresses(host: &str) -> Result<Vec<IpAddr>, ResetCode> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    if !is_host_name(host) {
        return Err(ResetCode::Unreachable);
    }
    // Fails only when the semaphore is closed, which never happens.
    let _permit = LOOKUPS.acquire().await;
    // A static binary must not load the host's name service modules, as getaddrinfo(3) would, so the host's own tool is
    // run.
    let output = host_program::output(Path::new("getent"), &["ahosts", host], limits::DIAL)
        .await
        .map_err(|error| {
            tracing::warn!(host, %error, "getent failed");
            ResetCode::Unreachable
        })?;
    let found = parse_ahosts(&String::from_utf8_lossy(&output.stdout));
    if found.is_empty() {
        Err(ResetCode::Unreachable)
    } else {
        Ok(found)
    }
}

fn is_host_name(host: &str) -> bool {
    !host.starts_with('-')
        && (1..=LONGEST_NAME).contains(&host.len())
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// Parses the output of `getent ahosts`; each address once.
fn parse_ahosts(output: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for ip in output
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
    {
        if !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_of_getent_is_tried_once_in_its_order() {
        let output = "2001:db8::1     STREAM db.example\n2001:db8::1     DGRAM  \n192.0.2.7       STREAM \n";
        assert_eq!(
            parse_ahosts(output),
            [
                "2001:db8::1".parse::<IpAddr>().unwrap(),
                "192.0.2.7".parse().unwrap()
            ]
        );
    }

    #[test]
    fn only_a_host_name_is_passed_to_getent() {
        for host in ["-s", "a b", "$(id)", "", "a/b", &"x".repeat(254)] {
            assert!(!is_host_name(host), "{host}");
        }
        assert!(is_host_name("db-1.example_x.org"));
    }

    #[tokio::test]
    async fn a_target_that_cannot_be_dialled_yet_is_refused_as_one_of_a_newer_client() {
        let unix = Address::Unix {
            path: "/var/run/docker.sock".to_owned(),
        };
        for target in [
            Target {
                transport: Transport::Udp,
                ..Target::workload(53)
            },
            Target {
                address: unix.clone(),
                ..Target::workload(1)
            },
            Target {
                address: unix,
                ..Target::host("h", 1)
            },
            Target {
                scope: Scope::Host,
                ..Target::workload(1)
            },
            Target {
                scope: Scope::Workload,
                ..Target::host("h", 1)
            },
        ] {
            let refused = dial(&target, None).await;
            assert_eq!(refused.unwrap_err(), ResetCode::Unsupported, "{target:?}");
        }
        let none = dial(&Target::workload(1), None).await;
        assert_eq!(none.unwrap_err(), ResetCode::NoWorkload);
    }

    #[tokio::test]
    async fn localhost_and_addresses_need_no_lookup() {
        assert_eq!(
            addresses("192.0.2.7").await.unwrap(),
            ["192.0.2.7".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(addresses("localhost").await.unwrap().len(), 2);
    }
}
