//! Where the agent is to connect to.

use serde::{Deserialize, Serialize};

/// An address and the network it is looked for in. An agent refuses what it cannot dial with
/// [`ResetCode::Unsupported`](super::stream::ResetCode::Unsupported).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// In whose network.
    pub scope: Scope,
    /// Where there.
    pub address: Address,
    /// By which protocol.
    #[serde(default, skip_serializing_if = "Transport::is_tcp")]
    pub transport: Transport,
}

/// Whose network an address is looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The workload's own: inside its container.
    Workload,
    /// The GPU host's.
    Host,
}

/// An address in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// A port on loopback: 127.0.0.1, then ::1.
    Port(u16),
    /// A host name or IP address, without brackets, and a port.
    Name {
        /// The name, looked up there.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket, by its path.
    Unix {
        /// The path in that file system.
        path: String,
    },
}

/// How bytes travel to an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// As a stream.
    #[default]
    Tcp,
    /// As datagrams.
    Udp,
}

impl Transport {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_tcp(&self) -> bool {
        *self == Self::Tcp
    }
}

impl Target {
    /// A TCP port on the workload's loopback.
    #[must_use]
    pub fn workload(port: u16) -> Self {
        Self {
            scope: Scope::Workload,
            address: Address::Port(port),
            transport: Transport::Tcp,
        }
    }

    /// A TCP port that the GPU host can reach, by the name or number of its host, without brackets.
    #[must_use]
    pub fn host(host: impl Into<String>, port: u16) -> Self {
        Self {
            scope: Scope::Host,
            address: Address::Name {
                host: host.into(),
                port,
            },
            transport: Transport::Tcp,
        }
    }
}
