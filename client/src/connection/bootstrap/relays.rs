//! Relays on the jump hosts, chained to a path.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::future::try_join_all;
use jq_common::bootstrap::{AdmitReply, RelayRequest, random};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::addresses::resolved;
use crate::{
    agent::{Bundle, Prepared, Role, prepare},
    connection::paths::{Path, RelayHop},
    error::{Failure, Kind},
    reporter::Reporter,
    ssh::{RemoteHost, SshHost},
};

/// The jump hosts for relays, in the order in which ssh reaches them.
pub(super) struct Relays<'a> {
    pub(super) gateways: &'a [SshHost],
    /// Whether the route allows only this path.
    pub(super) required: bool,
    /// How much longer than the target a jump host may take: the shell of some never answers, and other paths exist.
    pub(super) grace: Duration,
    pub(super) bundle: &'a Bundle,
    pub(super) reporter: &'a dyn Reporter,
}

/// The address of the next hop behind a relay.
struct Next<'a> {
    name: &'a str,
    address: Option<IpAddr>,
    port: u16,
}

impl Relays<'_> {
    /// Starts a relay on each jump host, up to the point where it waits for its request; unless relays are required, a
    /// failure is part of the result. `has_served` is cancelled once the target is ready.
    pub(super) async fn prepare(
        &self,
        has_served: &CancellationToken,
    ) -> Result<Vec<Result<Prepared, Failure>>, Failure> {
        let one = async |gateway: &SshHost| {
            let too_late = async {
                has_served.cancelled().await;
                sleep(self.grace).await;
            };
            let prepared = tokio::select! {
                prepared = prepare(gateway, Role::Relay, self.bundle, self.reporter) => prepared,
                () = too_late, if !self.required => Err(too_slow(gateway)),
            };
            match prepared {
                Err(failure) if self.required => Err(failure),
                prepared => {
                    if prepared.is_err() {
                        self.reporter.done(gateway.name());
                    }
                    Ok(prepared)
                }
            }
        };
        try_join_all(self.gateways.iter().map(one)).await
    }

    /// Tells each relay, from the last to the first, the address of the next relay or the agent. Returns one path for each
    /// address of the first relay. A relay that failed is left out, with a note; without the first there is no path.
    pub(super) async fn announce(
        &self,
        prepared: Vec<Result<Prepared, Failure>>,
        target: &SshHost,
        agent: &AdmitReply,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Path>, Failure> {
        let mut next = Next {
            name: target.name(),
            address: agent.address,
            port: agent.port,
        };
        let mut hops = Vec::new();
        let mut first = None;
        for (gateway, relay) in self.gateways.iter().zip(prepared).rev() {
            let announced = match relay {
                Ok(relay) if self.required => announce(relay, gateway, &mut next).await,
                Ok(relay) => match timeout(self.grace, announce(relay, gateway, &mut next)).await {
                    Ok(announced) => announced,
                    Err(_) => Err(too_slow(gateway)),
                },
                Err(failure) => Err(failure),
            };
            self.reporter.done(gateway.name());
            match announced {
                Ok(hop) => {
                    hops.push(hop);
                    first = Some(gateway);
                }
                Err(failure) if self.required => return Err(failure),
                Err(failure) => {
                    notes.push(format!("no relay on {}: {}", gateway.name(), reason(&failure)));
                    first = None;
                }
            }
        }
        hops.reverse();
        let Some(first) = first else {
            return Ok(Vec::new());
        };
        match resolved(first, next.port).await {
            Ok(addresses) => Ok(addresses
                .into_iter()
                .map(|address| Path::Relay {
                    address,
                    hops: hops.clone(),
                })
                .collect()),
            Err(failure) if self.required => Err(failure),
            Err(failure) => {
                notes.push(format!(
                    "the relay on {} cannot be used: {}",
                    first.name(),
                    reason(&failure)
                ));
                Ok(Vec::new())
            }
        }
    }
}

fn too_slow(gateway: &SshHost) -> Failure {
    Failure::new(Kind::AgentFailed, "the relay took too long to start").on(gateway.name())
}

/// Tells a relay the address of the next hop, and makes the relay the next hop for the one before.
async fn announce<'a>(
    relay: Prepared,
    gateway: &'a SshHost,
    next: &mut Next<'a>,
) -> Result<RelayHop, Failure> {
    let failed = |why: String| {
        Failure::new(Kind::AgentFailed, "cannot set up the relay")
            .on(gateway.name())
            .because(why)
    };
    let address = next.address.ok_or_else(|| {
        failed(format!(
            "{} does not report its address (SSH_CONNECTION is not set)",
            next.name
        ))
    })?;
    let pair = random().map_err(|error| failed(error.to_string()))?;
    let secret = random().map_err(|error| failed(error.to_string()))?;
    let agent = SocketAddr::new(address.to_canonical(), next.port);
    let reply = relay.relay(RelayRequest { pair, secret, agent }).await?;
    *next = Next {
        name: gateway.name(),
        address: reply.address,
        port: reply.port,
    };
    Ok(RelayHop {
        host: gateway.name().to_owned(),
        pair,
        secret,
    })
}

/// What failed and why, without the host.
fn reason(failure: &Failure) -> String {
    if failure.why.is_empty() {
        failure.what.clone()
    } else {
        format!("{}: {}", failure.what, failure.why)
    }
}
