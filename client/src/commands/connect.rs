//! `connect`: from a target to a page in the browser, until the user has had enough.

mod browser;
mod first;
mod keeper;
mod ports;
mod reach;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use jq_common::{
    codec::FrameError,
    identity::Identity,
    protocol::workload::{Event, Ready, Request},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::{keeper::Keeper, ports::Ports, reach::Reacher};
use crate::{
    control::{self, Control, Port, Snapshot},
    error::{Failure, Kind},
    memory::Memory,
    notice::Notices,
    output::{Opened, Printer, status::Status},
    remote::Reporter as _,
    settings::{ConnectSettings, Environment},
    state::SessionFile,
    tunnel::session::{Events, Session},
};

/// Connects, and stays until `stop` is cancelled; then disconnects. Dropping the future disconnects at once.
///
/// # Errors
/// A [`Failure`] that says what went wrong, on which host, and what to do: also when it is stopped before all stood.
pub async fn run(
    settings: &ConnectSettings,
    environment: &Environment,
    printer: &Printer,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let interrupted = || Failure::new(Kind::Interrupted, "interrupted");
    for note in &settings.notes {
        printer.note(note);
    }
    let session = Session::new(settings.linger, settings.compression)
        .map_err(|error| Failure::new(Kind::Local, "cannot begin a session").because(error))?;
    // Asked before there is a connection, so that it goes with the first packets on one.
    let asked = ask(settings, &session)?;
    let connecting = connect(settings, environment, printer, &session);
    let mut keeper = stop
        .run_until_cancelled(connecting)
        .await
        .unwrap_or_else(|| Err(interrupted()))?;
    let opened = AtomicBool::new(false);
    let (status, workload_gone) = (keeper.status(), keeper.workload_gone());
    let poke = keeper.poke();
    let work = async {
        let ready = start(settings, &session, asked, printer).await?;
        let file = SessionFile::new(&environment.state_dir, &settings.session);
        let ports = Ports::bind(settings, &ready, &file, printer).await?;
        let url = ports.url(&ready);
        let forwards = ports.shown();
        printer.opened(&summary(&status.borrow(), &ready, url.clone(), forwards.clone()));
        opened.store(true, Ordering::Relaxed);
        let _page = match &url {
            Some(url) if settings.browser => {
                browser::open(&environment.state_dir, &settings.session, url, printer)
            }
            _ => None,
        };
        let snapshot = snapshot(settings, &status.borrow(), &ready, url, &forwards);
        tokio::select! {
            never = ports.serve(&session, printer) => match never {},
            () = show(status.clone(), printer) => Err(Failure::new(Kind::Local, "the connection is no longer watched")),
            failure = restart(settings, &session, printer, &workload_gone) => Err(failure),
            () = async {
                answer(environment, settings, snapshot, status.clone(), poke, printer).await;
                // Without its socket the session goes on.
                std::future::pending::<()>().await;
            } => Ok(()),
        }
    };
    let ended = tokio::select! {
        failure = keeper.run() => Err(failure),
        ended = work => ended,
        () = stop.cancelled() => if opened.load(Ordering::Relaxed) { Ok(()) } else { Err(interrupted()) },
    };
    keeper.leave().await;
    ended
}

/// Finds a connection, without ssh where the last one's agent still answers.
async fn connect(
    settings: &ConnectSettings,
    environment: &Environment,
    printer: &Printer,
    session: &Arc<Session>,
) -> Result<Keeper, Failure> {
    let circumstances = reach::circumstances(settings)?;
    let memory = Memory::open(&environment.state_dir, &settings.session, circumstances);
    let (identity, known) = match memory.load() {
        Some((identity, known)) => (identity, Some(known)),
        None => {
            let identity = Identity::generate()
                .map_err(|error| Failure::new(Kind::Local, "cannot make a certificate").because(error))?;
            (identity, None)
        }
    };
    let reacher = Reacher::new(settings, environment, identity.fingerprint(), printer)?;
    let searcher = first::searcher(session.clone(), Arc::new(identity));
    let recalled = match known {
        Some(known) => first::recall(&searcher, known).await,
        None => None,
    };
    let found = match recalled {
        Some(found) => found,
        None => first::reach(&searcher, &reacher, settings, printer).await?,
    };
    let notices = Notices::start(Vec::new());
    let host = settings.target.to_string();
    Ok(Keeper::new(host, found, Arc::new(reacher), memory, notices))
}

/// Asks the agent to start the workload: the one that carries the session, or the first that will.
fn ask(settings: &ConnectSettings, session: &Arc<Session>) -> Result<Events, Failure> {
    session
        .request(Request::Start(Box::new(settings.workload.clone())))
        .map_err(|error| Failure::new(Kind::Local, "cannot ask for the workload").because(error))
}

/// Shows what the agent does that was asked to start the workload, until that runs.
async fn start(
    settings: &ConnectSettings,
    session: &Arc<Session>,
    mut events: Events,
    printer: &Printer,
) -> Result<Ready, Failure> {
    let host = settings.target.to_string();
    let broken = |error: FrameError| {
        Failure::new(
            Kind::ConnectionLost,
            "the session was lost while the container was being started",
        )
        .on(&host)
        .because(error)
        .hint("run the same command again: what was done so far is kept")
    };
    let agent = session.known_by();
    loop {
        match events.next().await.map_err(broken)? {
            Event::Step(text) => printer.begin(&host, &text),
            Event::Progress(progress) => printer.progressed(&host, &progress),
            Event::Note(text) => printer.note(&text),
            Event::Warning(text) => printer.warning(&text),
            Event::Ready(ready) => {
                session.serve(agent);
                return Ok(*ready);
            }
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

/// Has every further agent start the workload too. Returns when one cannot.
async fn restart(
    settings: &ConnectSettings,
    session: &Arc<Session>,
    printer: &Printer,
    workload_gone: &Notify,
) -> Failure {
    loop {
        workload_gone.notified().await;
        let started = match ask(settings, session) {
            Ok(asked) => start(settings, session, asked, printer).await,
            Err(failure) => Err(failure),
        };
        match started {
            Ok(_) => printer.done(&settings.target.to_string()),
            // That agent is gone as well; another one will be found.
            Err(failure) if failure.kind == Kind::ConnectionLost => {}
            Err(failure) => return failure,
        }
    }
}

/// Shows how the connection is. Returns when nobody knows any more.
async fn show(mut status: watch::Receiver<Status>, printer: &Printer) {
    while status.changed().await.is_ok() {
        printer.status(&status.borrow_and_update());
    }
}

/// Answers other processes that ask how the session is, while it is polled.
async fn answer(
    environment: &Environment,
    settings: &ConnectSettings,
    mut snapshot: Snapshot,
    mut status: watch::Receiver<Status>,
    poke: Arc<Notify>,
    printer: &Printer,
) {
    let bound = Control::bind(&control::folder(&environment.runtime_dir), &settings.session);
    let control = match bound {
        Ok(Some(control)) => control,
        Ok(None) => {
            return printer.note(&format!(
                "another jq-client has the session {}; `jq-client status` shows that one",
                settings.session
            ));
        }
        Err(error) => {
            return printer.note(&format!("`jq-client status` will not show this session: {error}"));
        }
    };
    let (told, telling) = watch::channel(snapshot.clone());
    tokio::select! {
        never = control.serve(telling, poke) => match never {},
        () = async {
            while status.changed().await.is_ok() {
                snapshot.status = status.borrow_and_update().clone();
                told.send_replace(snapshot.clone());
            }
        } => {}
    }
}

fn summary<'a>(
    status: &Status,
    ready: &'a Ready,
    url: Option<String>,
    forwards: Vec<(u16, String)>,
) -> Opened<'a> {
    Opened {
        url,
        ready,
        path: status.path.clone().unwrap_or_default(),
        round_trip_ms: status.round_trip.unwrap_or_default().as_secs_f64() * 1000.0,
        forwards,
    }
}

fn snapshot(
    settings: &ConnectSettings,
    status: &Status,
    ready: &Ready,
    url: Option<String>,
    forwards: &[(u16, String)],
) -> Snapshot {
    let port = |(local, target): &(u16, String)| Port {
        local: *local,
        target: target.clone(),
    };
    Snapshot {
        session: settings.session.clone(),
        target: settings.target.to_string(),
        pid: std::process::id(),
        status: status.clone(),
        ports: forwards.iter().map(port).collect(),
        engine: ready.engine.clone(),
        container: ready.container.as_ref().map(|container| container.name.clone()),
        gpus: ready.gpus.clone(),
        url,
    }
}
