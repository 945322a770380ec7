//! The hosts and links of each topology, with their names and addresses. Values only.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// How the hosts are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// laptop - gateway - gpu. The gateway does not forward packets, so only it reaches the GPU host.
    Gateway,
    /// laptop - gpu.
    Direct,
    /// laptop - gw1 - gw2 - gpu. The gateways do not forward packets, so each host reaches only its neighbours.
    TwoGateways,
}

/// The role of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostName {
    /// The laptop, on which the client runs. It has no daemons.
    Laptop,
    /// The gateway between laptop and GPU host. Runs sshd.
    Gateway,
    /// The first of two gateways. Runs sshd.
    Gw1,
    /// The second of two gateways. Runs sshd.
    Gw2,
    /// The GPU host. Runs sshd and, optionally, dockerd.
    Gpu,
}

impl HostName {
    /// All hosts.
    pub const ALL: [Self; 5] = [Self::Laptop, Self::Gateway, Self::Gw1, Self::Gw2, Self::Gpu];

    /// The name in namespaces and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Laptop => "laptop",
            Self::Gateway => "gateway",
            Self::Gw1 => "gw1",
            Self::Gw2 => "gw2",
            Self::Gpu => "gpu",
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HostName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|name| name.as_str() == text);
        let Some(name) = found else {
            bail!("unknown host {text}: the hosts are laptop, gateway (or gw1 and gw2) and gpu")
        };
        Ok(name)
    }
}

impl FromStr for Topology {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "gateway" => Ok(Self::Gateway),
            "direct" => Ok(Self::Direct),
            "two-gateways" => Ok(Self::TwoGateways),
            other => bail!("unknown topology {other}: the topologies are gateway, direct and two-gateways"),
        }
    }
}

/// A link of a topology. The first end has `.1` in its subnet, the second `.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) ends: [HostName; 2],
    subnet: u8,
}

impl Topology {
    pub(crate) fn hosts(self) -> &'static [HostName] {
        match self {
            Self::Gateway => &[HostName::Laptop, HostName::Gateway, HostName::Gpu],
            Self::Direct => &[HostName::Laptop, HostName::Gpu],
            Self::TwoGateways => &[HostName::Laptop, HostName::Gw1, HostName::Gw2, HostName::Gpu],
        }
    }

    /// The neighbour of `host` on the route from `from`, which is nearer to the laptop. None if they are neighbours.
    pub(crate) fn jump(self, from: HostName, host: HostName) -> Option<HostName> {
        let place = |name| self.hosts().iter().position(|other| *other == name);
        let (from, host) = (place(from)?, place(host)?);
        (host > from + 1).then(|| self.hosts()[host - 1])
    }

    pub(crate) fn wires(self) -> &'static [Wire] {
        const GATEWAY: [Wire; 2] = [
            Wire {
                ends: [HostName::Laptop, HostName::Gateway],
                subnet: 1,
            },
            Wire {
                ends: [HostName::Gateway, HostName::Gpu],
                subnet: 2,
            },
        ];
        const DIRECT: [Wire; 1] = [Wire {
            ends: [HostName::Laptop, HostName::Gpu],
            subnet: 3,
        }];
        const TWO_GATEWAYS: [Wire; 3] = [
            Wire {
                ends: [HostName::Laptop, HostName::Gw1],
                subnet: 4,
            },
            Wire {
                ends: [HostName::Gw1, HostName::Gw2],
                subnet: 5,
            },
            Wire {
                ends: [HostName::Gw2, HostName::Gpu],
                subnet: 6,
            },
        ];
        match self {
            Self::Gateway => &GATEWAY,
            Self::Direct => &DIRECT,
            Self::TwoGateways => &TWO_GATEWAYS,
        }
    }

    /// The address of `host` on the link to its neighbour towards the laptop; for the laptop, on its only link.
    pub(crate) fn addresses(self, host: HostName) -> (Ipv4Addr, Ipv6Addr) {
        let wire = self.wires().iter().find(|wire| wire.ends.contains(&host));
        wire.map_or((Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST), |wire| {
            wire.addresses(host)
        })
    }
}

impl Wire {
    /// The addresses of one of the two ends.
    pub(crate) fn addresses(&self, host: HostName) -> (Ipv4Addr, Ipv6Addr) {
        let number = if self.ends[0] == host { 1 } else { 2 };
        let v6 = Ipv6Addr::new(0xfd77, self.subnet.into(), 0, 0, 0, 0, 0, number.into());
        (Ipv4Addr::new(10, 77, self.subnet, number), v6)
    }

    /// The device name of `host`, which contains the host at the other end.
    pub(crate) fn device(&self, host: HostName) -> String {
        let peer = if self.ends[0] == host {
            self.ends[1]
        } else {
            self.ends[0]
        };
        format!("to-{peer}")
    }
}
