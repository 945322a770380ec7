//! Binds what every long-living role needs: its lock, its UDP port and its control socket.

use std::{fs::File, io, net::UdpSocket};

use jq_common::{identity, quic};
use tokio::net::UnixListener;

use crate::{rundir::RunDir, udp};

/// Why a role cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process of this role runs already; it answers bootstraps.
    #[error("another process of this role is running")]
    Running,
    /// The private folder, its lock or its control socket.
    #[error("private folder: {0}")]
    Folder(#[source] io::Error),
    /// The UDP socket.
    #[error("UDP port: {0}")]
    Udp(#[source] io::Error),
    /// The system's random number generator.
    #[error("randomness: {0}")]
    Random(String),
    /// The certificate.
    #[error("certificate: {0}")]
    Identity(#[from] identity::GenerateError),
    /// The snapshot that the predecessor left cannot be read.
    #[error("handover snapshot: {0}")]
    Inherit(#[source] io::Error),
    /// The QUIC endpoint.
    #[error(transparent)]
    Endpoint(#[from] quic::EndpointError),
}

/// The lock and the sockets of a role.
pub(crate) struct RoleSockets {
    /// Held for as long as the process answers for the role.
    pub(crate) lock: File,
    /// Bound on all addresses of the host.
    pub(crate) udp: UdpSocket,
    /// The port of `udp`.
    pub(crate) port: u16,
    /// Where bootstraps connect.
    pub(crate) control: UnixListener,
}

impl RoleSockets {
    /// Takes the lock in `folder`, then a UDP port, then the control socket.
    ///
    /// # Errors
    /// [`StartError::Running`] when another process holds the lock; `Folder` or `Udp` otherwise. Must be called within
    /// a tokio runtime.
    pub(crate) fn bind(folder: &RunDir) -> Result<Self, StartError> {
        let lock = folder
            .lock()
            .map_err(StartError::Folder)?
            .ok_or(StartError::Running)?;
        folder.remove_outdated();
        let udp = udp::bind().map_err(StartError::Udp)?;
        let port = udp.local_addr().map_err(StartError::Udp)?.port();
        let control = folder.listen().map_err(StartError::Folder)?;
        Ok(Self {
            lock,
            udp,
            port,
            control,
        })
    }
}

/// `N` random bytes for a key or an id of the role.
///
/// # Errors
/// [`StartError::Random`].
pub(crate) fn random<const N: usize>() -> Result<[u8; N], StartError> {
    jq_common::bootstrap::random().map_err(|error| StartError::Random(error.to_string()))
}
