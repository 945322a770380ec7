//! Paths to the agent, and a QUIC connection over one of them.

use std::{
    fmt,
    future::pending,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use futures_util::future::{BoxFuture, Either};
use jq_common::{
    bootstrap::{PairId, RelaySecret},
    carrier::{pipe, udp::UdpCarrier},
    identity::{Fingerprint, Identity},
    protocol::hex,
    quic::{self, CarrierKind},
};
use quinn::{Connection, ConnectionError, Endpoint};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::timeout};

use super::{rank::Rank, relay};
use crate::agent::Pipe;

/// A path to the agent. Contains secrets: to be stored in private files only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Path {
    /// Direct UDP to the agent.
    Direct(SocketAddr),
    /// UDP through relays on the jump hosts.
    Relay {
        /// UDP address of the first relay.
        address: SocketAddr,
        /// The relays in order; not empty.
        hops: Vec<RelayHop>,
    },
    /// Over an ssh channel.
    Ssh,
}

impl Path {
    /// Its kind.
    #[must_use]
    pub(crate) fn rank(&self) -> Rank {
        match self {
            Self::Direct(_) => Rank::Direct,
            Self::Relay { .. } => Rank::Relay,
            Self::Ssh => Rank::Ssh,
        }
    }

    /// Destination of its UDP packets; none for ssh.
    #[must_use]
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Direct(address) | Self::Relay { address, .. } => Some(*address),
            Self::Ssh => None,
        }
    }
}

/// One relay of a [`Path`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelayHop {
    /// Its host, as the user writes it.
    pub(crate) host: String,
    /// The pair that was announced to it.
    #[serde(with = "hex")]
    pub(crate) pair: PairId,
    /// Secret that authenticates the client for the pair.
    #[serde(with = "hex")]
    pub(crate) secret: RelaySecret,
}

impl fmt::Debug for RelayHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayHop")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(_) => f.write_str("direct"),
            Self::Relay { hops, .. } => {
                let hosts: Vec<_> = hops.iter().map(|hop| hop.host.as_str()).collect();
                write!(f, "through {}", hosts.join(", "))
            }
            Self::Ssh => f.write_str("ssh"),
        }
    }
}

/// Why a path does not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PathError {
    /// The QUIC endpoint cannot be created.
    #[error("{0}")]
    Endpoint(#[from] quic::EndpointError),
    /// The UDP socket failed.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// No answer in time.
    #[error("no answer from UDP {0} within {t:.0} s", t = .1.as_secs_f64())]
    Silence(SocketAddr, Duration),
    /// The host reports that the port is closed (ICMP port unreachable).
    #[error("nothing listens on UDP {0}")]
    Nobody(SocketAddr),
    /// A relay of the chain does not answer.
    #[error("the relay on {0} does not answer")]
    RelaySilent(String),
    /// The agent, or another program at its address, refused the connection.
    #[error("the agent refused the connection: {0}")]
    Refused(ConnectionError),
    /// The ssh channel ended.
    #[error("the ssh channel ended")]
    PipeEnded,
}

impl PathError {
    /// The path is known to be dead: its peer is gone. By UDP another process may soon be there.
    pub(super) fn gone(path: &Path) -> Self {
        match path.address() {
            Some(address) => Self::Nobody(address),
            None => Self::PipeEnded,
        }
    }
}

/// A connection and its path.
pub(crate) struct Connected {
    /// The connection.
    pub(crate) connection: Connection,
    /// Its endpoint, to be closed last.
    pub(crate) endpoint: Endpoint,
    /// The path that it uses.
    pub(crate) path: Path,
    /// Completes when the path is known to be dead.
    pub(crate) gone: BoxFuture<'static, ()>,
}

/// Connects over the UDP path `path` within `deadline`. A relay accepts another attempt for the same pair only with a
/// higher `generation`.
///
/// # Errors
/// A [`PathError`].
pub(crate) async fn connect(
    path: Path,
    generation: u64,
    identity: &Identity,
    agent: Fingerprint,
    deadline: Duration,
) -> Result<Connected, PathError> {
    let Some(address) = path.address() else {
        return Err(PathError::PipeEnded);
    };
    let socket = tokio::net::UdpSocket::bind(unspecified(address)).await?;
    let mut retransmit = None;
    if let Path::Relay { hops, .. } = &path {
        if cfg!(target_os = "linux") {
            // So that the kernel reports when the relay is gone (see `UdpCarrier::to_peer`).
            socket.connect(address).await?;
        }
        let chain: Vec<_> = hops.iter().map(|hop| (hop.pair, hop.secret)).collect();
        retransmit = relay::bind_chain(&socket, address, &chain, generation, deadline)
            .await
            .map_err(|error| match (error.source.kind(), error.index) {
                (io::ErrorKind::TimedOut, 0) => PathError::Silence(address, deadline),
                (io::ErrorKind::TimedOut, index) => PathError::RelaySilent(hops[index].host.clone()),
                (io::ErrorKind::ConnectionRefused, _) => PathError::Nobody(address),
                _ => PathError::Socket(error.source),
            })?;
    }
    let socket = socket.into_std()?;
    let retransmitting = match retransmit {
        Some(retransmit) => {
            let again = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
            Either::Left(async move { retransmit.until_refused(&again, address).await })
        }
        None => Either::Right(pending()),
    };
    let carrier = UdpCarrier::to_peer(socket, address)?;
    let (refused, gone) = (carrier.refused(), carrier.refused());
    let endpoint = quic::client_endpoint_on(carrier, CarrierKind::Udp)?;
    let connecting = quic::connect(&endpoint, address, identity, agent)?;
    let connected = tokio::select! {
        connected = timeout(deadline, connecting) => connected,
        () = refused => return Err(PathError::Nobody(address)),
        () = retransmitting => return Err(PathError::Nobody(address)),
    };
    match connected {
        Ok(Ok(connection)) => Ok(Connected {
            connection,
            endpoint,
            path,
            gone: Box::pin(gone),
        }),
        Ok(Err(ConnectionError::TimedOut)) | Err(_) => Err(PathError::Silence(address, deadline)),
        Ok(Err(error)) => Err(PathError::Refused(error)),
    }
}

/// Connects through an ssh channel within `deadline`. Dropping the connection's `gone` ends the channel.
///
/// # Errors
/// A [`PathError`].
pub(crate) async fn connect_by_pipe(
    pipe: Pipe,
    identity: &Identity,
    agent: Fingerprint,
    deadline: Duration,
) -> Result<Connected, PathError> {
    let (reader, writer, process) = pipe.into_parts()?;
    let (carrier, driver) = pipe::over(reader, writer);
    let endpoint = quic::client_endpoint_on(carrier, CarrierKind::Pipe)?;
    let connecting = quic::connect_over(&endpoint, pipe::PEER, identity, agent, CarrierKind::Pipe)?;
    // A task of its own, so that packets are forwarded whatever the owner is doing.
    let mut moving = JoinSet::new();
    moving.spawn(async move {
        let ended = driver.run().await;
        tracing::debug!(?ended, "ssh channel");
        drop(process);
    });
    let mut gone: BoxFuture<'static, ()> = Box::pin(async move {
        moving.join_next().await;
    });
    let connected = tokio::select! {
        connected = timeout(deadline, connecting) => connected,
        () = &mut gone => return Err(PathError::PipeEnded),
    };
    match connected {
        Ok(Ok(connection)) => Ok(Connected {
            connection,
            endpoint,
            path: Path::Ssh,
            gone,
        }),
        Ok(Err(ConnectionError::TimedOut)) | Err(_) => Err(PathError::PipeEnded),
        Ok(Err(error)) => Err(PathError::Refused(error)),
    }
}

fn unspecified(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
