//! From a target to an agent that lets this client in, and the paths that may lead to it. The only part of `connect`
//! that uses ssh.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use jq_common::{
    bootstrap::{RelayRequest, ServeReply, ServeRequest, random},
    identity::{Fingerprint, Identity},
};
use tokio::net::lookup_host;

use crate::{
    bundle::Bundle,
    cli,
    error::{Failure, Kind},
    launch::{Prepared, Role, prepare},
    output::Printer,
    remote::{Connection, Destination, Local, RemoteHost, Reporter, SshHost, SshOptions},
    settings::{ConnectSettings, Environment, Target},
    state::make_private,
    tunnel::paths::Path,
};

/// An agent that waits for this client.
pub(super) struct Reached {
    /// Its certificate.
    pub(super) agent: Fingerprint,
    /// Ways to it, the preferred one first.
    pub(super) paths: Vec<Path>,
    /// The ssh connections by which it was reached.
    pub(super) ssh: Ssh,
}

/// ssh connections that have done their part, or none.
pub(super) struct Ssh(Option<Connection>);

impl Ssh {
    /// Ends them.
    pub(super) async fn close(self) {
        if let Some(connection) = self.0 {
            connection.close().await;
        }
    }
}

/// Starts the agent on the target, and the relay on the first jump host where packets go that way.
pub(super) async fn reach(
    settings: &ConnectSettings,
    environment: &Environment,
    identity: &Identity,
    printer: &Printer,
) -> Result<Reached, Failure> {
    let executable = std::env::current_exe().ok();
    let bundle = Bundle::find(settings.agent_dir.as_deref(), executable.as_deref())?;
    let request = ServeRequest {
        client: identity.fingerprint(),
        linger_s: settings.linger.as_secs(),
    };
    match &settings.target {
        Target::Local => {
            let host = Local::new();
            let prepared = prepare(&host, Role::Serve, &bundle, printer).await?;
            let reply = prepared.serve(request).await?;
            printer.end(host.name());
            let path = Path::Direct((Ipv4Addr::LOCALHOST, reply.port).into());
            Ok(Reached {
                agent: reply.agent,
                paths: vec![path],
                ssh: Ssh(None),
            })
        }
        Target::Ssh(target) => {
            let connection = log_in(target, settings, environment, printer).await?;
            let (agent, paths) = start_by_ssh(&connection, settings, &bundle, request, printer).await?;
            Ok(Reached {
                agent,
                paths,
                ssh: Ssh(Some(connection)),
            })
        }
    }
}

async fn log_in(
    target: &str,
    settings: &ConnectSettings,
    environment: &Environment,
    printer: &Printer,
) -> Result<Connection, Failure> {
    let destination = Destination::target(target).map_err(|error| {
        Failure::new(Kind::Usage, format!("`{target}` is no ssh destination")).because(error)
    })?;
    make_private(&environment.runtime_dir).map_err(|error| {
        Failure::new(
            Kind::Local,
            format!("cannot make {}", environment.runtime_dir.display()),
        )
        .because(error)
    })?;
    let options = SshOptions {
        config: settings.ssh_config.clone(),
        jump: settings.jump.clone(),
        options: settings.ssh_options.clone(),
        terminal: environment.draws,
        ..SshOptions::new(&environment.runtime_dir)
    };
    let reporter: Arc<dyn Reporter> = Arc::new(printer.clone());
    Connection::open(&destination, &options, &reporter).await
}

async fn start_by_ssh(
    ssh: &Connection,
    settings: &ConnectSettings,
    bundle: &Bundle,
    request: ServeRequest,
    printer: &Printer,
) -> Result<(Fingerprint, Vec<Path>), Failure> {
    let gateway = match settings.path {
        cli::Path::Direct => None,
        cli::Path::Auto => ssh.gateway(),
        cli::Path::Relay => Some(ssh.gateway().ok_or_else(|| {
            Failure::new(Kind::Usage, "there is no host to relay")
                .because(format!("{} is reached without a jump host", settings.target))
                .hint("leave --path away, or name a jump host with -J")
        })?),
    };
    let target = ssh.target();
    let serve = async {
        let reply = prepare(target, Role::Serve, bundle, printer)
            .await?
            .serve(request)
            .await?;
        printer.end(target.name());
        Ok::<_, Failure>(reply)
    };
    let Some(gateway) = gateway else {
        let reply = serve.await?;
        let paths = addresses(target, reply.port)
            .await?
            .into_iter()
            .map(Path::Direct)
            .collect();
        return Ok((reply.agent, paths));
    };
    let (reply, relay) = tokio::try_join!(serve, prepare(gateway, Role::Relay, bundle, printer))?;
    let paths = announce(relay, gateway, target, &reply).await?;
    printer.end(gateway.name());
    Ok((reply.agent, paths))
}

/// Tells the relay which agent and which client it is for.
async fn announce(
    relay: Prepared,
    gateway: &SshHost,
    target: &SshHost,
    agent: &ServeReply,
) -> Result<Vec<Path>, Failure> {
    let failed = |why: String| {
        Failure::new(Kind::AgentFailed, "cannot set the relay up")
            .on(gateway.name())
            .because(why)
    };
    let address = agent.address.ok_or_else(|| {
        failed(format!(
            "{} does not say at which address it is reached (SSH_CONNECTION is not set)",
            target.name()
        ))
    })?;
    let pair = random().map_err(|error| failed(error.to_string()))?;
    let secret = random().map_err(|error| failed(error.to_string()))?;
    let request = RelayRequest {
        pair,
        secret,
        agent: SocketAddr::new(address, agent.port),
    };
    let reply = relay.relay(request).await?;
    let paths = addresses(gateway, reply.port)
        .await?
        .into_iter()
        .map(|address| Path::Relay {
            gateway: gateway.name().to_owned(),
            address,
            pair,
            secret,
        });
    Ok(paths.collect())
}

/// Where a host that ssh connects to from here can be reached with UDP.
async fn addresses(host: &SshHost, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let name = host.hostname();
    let found = match name.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => lookup_host((name, port))
            .await
            .map_err(|error| {
                Failure::new(Kind::UnknownHost, format!("cannot find the address of {name}"))
                    .on(host.name())
                    .because(error)
                    .hint("ssh reaches it by a way of its own (ProxyCommand?); use ProxyJump for it")
            })?
            .collect(),
    };
    Ok(found)
}
