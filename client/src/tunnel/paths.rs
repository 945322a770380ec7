//! The ways packets can take to the agent, and the connection by the first that works.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use jq_common::{
    bootstrap::{PairId, RelaySecret},
    identity::{Fingerprint, Identity},
    quic,
};
use quinn::{Connection, ConnectionError, Endpoint};
use tokio::time::timeout;

use super::relay;

/// How long one way may take to answer.
const DEADLINE: Duration = Duration::from_secs(8);

/// One way to the agent.
#[derive(Clone)]
pub enum Path {
    /// Straight to its UDP port.
    Direct(SocketAddr),
    /// Through a relay on a gateway.
    Relay {
        /// The gateway, as the user calls it.
        gateway: String,
        /// The relay's UDP port there.
        address: SocketAddr,
        /// The pair announced to it.
        pair: PairId,
        /// What proves that the pair is ours.
        secret: RelaySecret,
    },
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(_) => f.write_str("direct"),
            Self::Relay { gateway, .. } => write!(f, "through {gateway}"),
        }
    }
}

/// Why one way did not work.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// The socket, or the endpoint on it.
    #[error("{0}")]
    Endpoint(#[from] quic::EndpointError),
    /// The socket.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// Nothing came back.
    #[error("no answer from UDP {0} within {t} s", t = DEADLINE.as_secs())]
    Silence(SocketAddr),
    /// The agent, or whoever answers in its place, refused.
    #[error("the agent refused the connection: {0}")]
    Refused(ConnectionError),
}

/// A connection, and the way it took.
pub struct Connected {
    /// The connection.
    pub connection: Connection,
    /// Its endpoint; closed last.
    pub endpoint: Endpoint,
    /// The way its packets take.
    pub path: Path,
}

/// Tries `paths` in their order, and returns the first that works.
///
/// # Errors
/// Every path with why it did not work, when none does.
pub async fn connect(
    paths: Vec<Path>,
    identity: &Identity,
    agent: Fingerprint,
) -> Result<Connected, Vec<(Path, PathError)>> {
    let mut failed = Vec::new();
    for path in paths {
        // A relay takes a later try of the same pair only with a higher generation.
        let generation = 1 + failed.len() as u64;
        match by(&path, generation, identity, agent).await {
            Ok((connection, endpoint)) => {
                return Ok(Connected {
                    connection,
                    endpoint,
                    path,
                });
            }
            Err(error) => failed.push((path, error)),
        }
    }
    Err(failed)
}

async fn by(
    path: &Path,
    generation: u64,
    identity: &Identity,
    agent: Fingerprint,
) -> Result<(Connection, Endpoint), PathError> {
    let address = match path {
        Path::Direct(address) | Path::Relay { address, .. } => *address,
    };
    let socket = tokio::net::UdpSocket::bind(unspecified(address)).await?;
    if let Path::Relay { pair, secret, .. } = path {
        relay::bind(&socket, address, *pair, secret, generation, DEADLINE)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::TimedOut => PathError::Silence(address),
                _ => PathError::Socket(error),
            })?;
    }
    let endpoint = quic::client_endpoint(socket.into_std()?)?;
    let connecting = quic::connect(&endpoint, address, identity, agent)?;
    match timeout(DEADLINE, connecting).await {
        Ok(Ok(connection)) => Ok((connection, endpoint)),
        Ok(Err(ConnectionError::TimedOut)) | Err(_) => Err(PathError::Silence(address)),
        Ok(Err(error)) => Err(PathError::Refused(error)),
    }
}

fn unspecified(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
