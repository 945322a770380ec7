//! `connect`: from a target to a page in the browser, until the user has had enough.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use jq_common::{
    identity::Identity,
    protocol::{topics::WorkloadStatus, workload::Ready},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    browser,
    connection::{
        bootstrap::{self, Bootstrapper},
        establish,
        keeper::Keeper,
        resume_ticket::TicketStore,
        wakeup::Triggers,
    },
    error::{Failure, Kind},
    output::{Opened, Printer},
    session::{
        core::Session,
        forwards::Ports,
        local_api::{self, LocalApi},
        workload::{ask, restart, start},
    },
    settings::{ConnectSettings, Environment},
    state::SessionFile,
    status::{Port, Snapshot, Status},
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
        let host = settings.target.to_string();
        let workload = session.subscriptions().workload();
        tokio::select! {
            never = ports.serve(&session, &host, printer) => match never {},
            () = show(status.clone(), printer) => Err(Failure::new(Kind::Local, "the connection is no longer watched")),
            failure = restart(settings, &session, printer, &workload_gone) => Err(failure),
            () = async {
                answer(environment, settings, snapshot, (status.clone(), workload), poke, printer).await;
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
    let circumstances = bootstrap::circumstances(settings)?;
    let memory = TicketStore::open(&environment.state_dir, &settings.session, circumstances);
    let (identity, known) = match memory.load() {
        Some((identity, known)) => (identity, Some(known)),
        None => {
            let identity = Identity::generate()
                .map_err(|error| Failure::new(Kind::Local, "cannot make a certificate").because(error))?;
            (identity, None)
        }
    };
    let bootstrapper = Bootstrapper::new(settings, environment, identity.fingerprint(), printer)?;
    let searcher = establish::searcher(session.clone(), Arc::new(identity));
    let recalled = match known {
        Some(known) => establish::recall(&searcher, known).await,
        None => None,
    };
    let found = match recalled {
        Some(found) => found,
        None => establish::reach(&searcher, &bootstrapper, settings, printer).await?,
    };
    let notices = Triggers::start(Vec::new());
    let host = settings.target.to_string();
    Ok(Keeper::new(host, found, Arc::new(bootstrapper), memory, notices))
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
    (mut status, mut workload): (watch::Receiver<Status>, watch::Receiver<Option<WorkloadStatus>>),
    poke: Arc<Notify>,
    printer: &Printer,
) {
    let bound = LocalApi::bind(&local_api::folder(&environment.runtime_dir), &settings.session);
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
            loop {
                snapshot.status = status.borrow_and_update().clone();
                snapshot.workload = workload.borrow_and_update().clone();
                told.send_replace(snapshot.clone());
                let changed = tokio::select! {
                    changed = status.changed() => changed,
                    changed = workload.changed() => changed,
                };
                if changed.is_err() {
                    return;
                }
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
        workload: None,
        url,
    }
}
