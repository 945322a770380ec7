//! Relays on the jump hosts, chained to a path.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::future::try_join_all;
use jq_common::bootstrap::{AdmitReply, RelayRequest, random};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{addresses::resolved, refusals::Refusals};
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
    pub(super) grace: Grace,
    /// Jump hosts that run no commands.
    pub(super) refusals: &'a Refusals,
    pub(super) bundle: &'a Bundle,
    pub(super) reporter: &'a dyn Reporter,
}

/// How much longer than the target a jump host may take: other paths exist.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grace {
    /// Whose shell has not answered yet. Some never do.
    silent: Duration,
    /// Whose shell is at work: the relay may have to be uploaded.
    at_work: Duration,
    /// Whether a shell that is silent for so long is taken for one that never answers.
    is_proof: bool,
}

impl Grace {
    /// The user waits for the first connection.
    pub(super) const ATTENDED: Self = Self {
        silent: Duration::from_secs(5),
        at_work: Duration::from_secs(20),
        is_proof: true,
    };

    /// Open forwarded connections are waiting.
    pub(super) const BACKGROUND: Self = Self {
        silent: Duration::from_secs(1),
        at_work: Duration::from_secs(1),
        is_proof: false,
    };
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
        let one = async |gateway: &SshHost| match self.prepare_one(gateway, has_served).await {
            Err(failure) if self.required => Err(failure),
            prepared => {
                if prepared.is_err() {
                    self.reporter.done(gateway.name());
                }
                Ok(prepared)
            }
        };
        try_join_all(self.gateways.iter().map(one)).await
    }

    async fn prepare_one(
        &self,
        gateway: &SshHost,
        has_served: &CancellationToken,
    ) -> Result<Prepared, Failure> {
        let has_refused = !self.required && self.refusals.has(gateway);
        let silent = if has_refused {
            Duration::ZERO
        } else {
            self.grace.silent
        };
        let too_late = async {
            has_served.cancelled().await;
            sleep(silent).await;
            if gateway.has_answered() {
                sleep(self.grace.at_work.saturating_sub(silent)).await;
            }
        };
        let (prepared, is_proven) = tokio::select! {
            prepared = prepare(gateway, Role::Relay, self.bundle, self.reporter) => (prepared, true),
            () = too_late, if !self.required => {
                let failure = if gateway.has_answered() { too_slow(gateway) } else { no_commands(gateway) };
                (Err(failure), self.grace.is_proof)
            }
        };
        match &prepared {
            Ok(_) if has_refused => self.refusals.remove(gateway),
            Err(failure) if failure.kind == Kind::NoShell && has_refused => {
                return Err(failure.clone().because(REMEMBERED));
            }
            Err(failure) if failure.kind == Kind::NoShell && is_proven => self.refusals.add(gateway),
            _ => {}
        }
        prepared
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
                Ok(relay) => match timeout(self.grace.at_work, announce(relay, gateway, &mut next)).await {
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
                    if failure.why != REMEMBERED {
                        notes.push(format!("no relay on {}: {}", gateway.name(), reason(&failure)));
                    }
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

/// Why a relay is missing for the same reason as before. The user was told then.
const REMEMBERED: &str = "it has refused commands before";

fn no_commands(gateway: &SshHost) -> Failure {
    Failure::new(Kind::NoShell, "its shell runs no commands").on(gateway.name())
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
