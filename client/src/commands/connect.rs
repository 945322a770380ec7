//! `connect`: from a target to a page in the browser, until the user has had enough.

mod browser;
mod ports;
mod reach;

use jq_common::{
    codec::FrameError,
    identity::Identity,
    protocol::control::{Event, Ready, Request},
};
use quinn::ConnectionError;

use self::ports::Ports;
use crate::{
    error::{Failure, Kind},
    output::{Opened, Printer},
    settings::{ConnectSettings, Environment},
    state::SessionFile,
    tunnel::{
        connection::AgentConnection,
        paths::{self, Path, PathError},
    },
};

/// Connects, and stays until the connection is lost; dropping the future disconnects. `opened` is called once all
/// stands.
///
/// # Errors
/// A [`Failure`] that says what went wrong, on which host, and what to do.
pub async fn run(
    settings: &ConnectSettings,
    environment: &Environment,
    printer: &Printer,
    opened: impl FnOnce(AgentConnection),
) -> Result<std::convert::Infallible, Failure> {
    for note in &settings.notes {
        printer.note(note);
    }
    let agent = connect(settings, environment, printer).await?;
    let ready = start(settings, &agent, printer).await?;
    let file = SessionFile::new(&environment.state_dir, &settings.session);
    let ports = Ports::bind(settings, &ready, &file, printer).await?;
    let url = ports.url(&ready);
    printer.opened(&Opened {
        url: url.clone(),
        ready: &ready,
        path: agent.path().to_string(),
        round_trip_ms: agent.round_trip().as_secs_f64() * 1000.0,
        forwards: ports.shown(),
    });
    opened(agent.clone());
    let _page = match &url {
        Some(url) if settings.browser => {
            browser::open(&environment.state_dir, &settings.session, url, printer)
        }
        _ => None,
    };
    let lost = tokio::select! {
        lost = agent.lost() => lost,
        never = ports.serve(&agent, printer) => match never {},
    };
    Err(connection_lost(settings, &lost))
}

/// Reaches the host, and connects to its agent by the first path that works.
async fn connect(
    settings: &ConnectSettings,
    environment: &Environment,
    printer: &Printer,
) -> Result<AgentConnection, Failure> {
    let identity = Identity::generate()
        .map_err(|error| Failure::new(Kind::Local, "cannot make a certificate").because(error))?;
    let reached = reach::reach(settings, environment, &identity, printer).await?;
    let host = settings.target.to_string();
    let ways: Vec<_> = reached.paths.iter().map(ToString::to_string).collect();
    printer.begin(&host, &format!("opening the connection, {}", ways.join(" or ")));
    let connected = paths::connect(reached.paths, &identity, reached.agent).await;
    printer.end(&host);
    // ssh has done its part.
    reached.ssh.close().await;
    connected
        .map(AgentConnection::new)
        .map_err(|failed| no_path(&host, &failed))
}

/// Has the agent start the workload, and shows what it does.
async fn start(
    settings: &ConnectSettings,
    agent: &AgentConnection,
    printer: &Printer,
) -> Result<Ready, Failure> {
    let host = settings.target.to_string();
    let broken = |error: FrameError| {
        Failure::new(
            Kind::ConnectionLost,
            "the connection was lost while the container was being started",
        )
        .on(&host)
        .because(error)
        .hint("run the same command again: what was done so far is kept")
    };
    let mut events = agent
        .request(Request::Start(Box::new(settings.workload.clone())))
        .await
        .map_err(broken)?;
    loop {
        match events.next().await.map_err(broken)? {
            Event::Step(text) => printer.begin(&host, &text),
            Event::Progress(progress) => printer.progressed(&host, &progress),
            Event::Note(text) => printer.note(&text),
            Event::Warning(text) => printer.warning(&text),
            Event::Ready(ready) => return Ok(*ready),
            Event::Failed(failure) => {
                return Err(Failure {
                    kind: Kind::Agent(failure.kind),
                    what: failure.what,
                    host: Some(host),
                    why: failure.why,
                    hint: failure.hint,
                });
            }
        }
    }
}

fn no_path(host: &str, failed: &[(Path, PathError)]) -> Failure {
    let why = failed
        .iter()
        .map(|(path, error)| format!("{path}: {error}"))
        .collect::<Vec<_>>()
        .join("\n");
    let refused = failed
        .iter()
        .any(|(_, error)| matches!(error, PathError::Refused(_) | PathError::Endpoint(_)));
    if refused {
        return Failure::new(Kind::AgentFailed, "cannot connect to the agent")
            .on(host)
            .because(why)
            .hint("try again; if it stays so, something else answers in the agent's place");
    }
    let relayed = failed.iter().find_map(|(path, _)| match path {
        Path::Relay { gateway, .. } => Some(gateway.as_str()),
        Path::Direct(_) => None,
    });
    let hint = match relayed {
        Some(gateway) => format!(
            "UDP is blocked, between here and {gateway} or between {gateway} and {host}. Ask for UDP ports \
             60000 to 61000 (those that mosh uses) to be let through both ways."
        ),
        None => format!(
            "UDP is blocked between here and {host}. Ask for UDP ports 60000 to 61000 (those that mosh uses) to be \
             let through."
        ),
    };
    Failure::new(Kind::UdpBlocked, "ssh works and UDP does not reach the agent")
        .on(host)
        .because(why)
        .hint(hint)
}

fn connection_lost(settings: &ConnectSettings, lost: &ConnectionError) -> Failure {
    let why = match lost {
        ConnectionError::TimedOut => "nothing was heard from the host for 30 s".to_owned(),
        ConnectionError::ApplicationClosed(_) => "the agent on the host ended".to_owned(),
        ConnectionError::Reset => "the agent on the host is gone".to_owned(),
        other => other.to_string(),
    };
    Failure::new(
        Kind::ConnectionLost,
        format!("the connection to {} was lost", settings.target),
    )
    .because(why)
    .hint("What runs there goes on; the same command connects again.")
}
