//! Keeps the session carried: finds a connection at the start, a better one when there is one, and another one when it is
//! lost, for as long as it takes.

mod events;
mod live;

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jq_common::protocol::session::Close;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, Interval, interval_at, sleep_until, timeout},
};

use self::{
    events::SSH_AFTER,
    live::{Live, Meter},
};
use super::{
    backoff::Attempts,
    bootstrap::{Bootstrapper, Interaction, Reached, Ssh},
    establish::Found,
    paths::Path,
    race::{Carried, KnownAgent, SearchError, Searcher},
    resume_ticket::TicketStore,
    wakeup::{Trigger, Triggers},
};
use crate::{
    error::Failure,
    session::core::{Detached, Session},
    status::{Loss, State, Status},
    ticker::{self, TICK},
};

/// How long a connection may be silent before it counts as lost in what the user sees.
const SUSPECT: Duration = Duration::from_secs(5);

/// How long the agent may take to hear that the session is over.
const LEAVE: Duration = Duration::from_secs(1);

/// A way to hear from a task that may not be there.
type Task<T> = Option<BoxFuture<'static, T>>;

/// The connection of a session, kept.
pub(crate) struct Keeper {
    host: String,
    searcher: Searcher,
    bootstrapper: Arc<Bootstrapper>,
    memory: TicketStore,
    notices: Triggers,
    known: KnownAgent,
    live: Option<Live>,
    /// The ssh connection through which the session may come to go.
    pending_ssh: Option<Ssh>,
    /// What is known came over ssh since the last connection was lost.
    told_from_ssh: bool,
    /// How many connections in a row were lost at once.
    short_lives: u32,
    /// ssh may be asking the user just now.
    is_attended: bool,
    /// The last failure of ssh that was told.
    said: Option<String>,
    /// Whether the search is for any connection, and not only for a better one.
    urgent: bool,
    search: Task<Result<Carried, Vec<(Path, SearchError)>>>,
    bootstrap: Task<Result<Reached, Failure>>,
    by_pipe: Task<Result<Carried, SearchError>>,
    attempts: Attempts,
    bootstrap_at: Option<Instant>,
    login_needed: bool,
    /// Since when nothing comes through.
    down: Option<Instant>,
    /// Since when the session has been moving to a connection that was just made.
    moving: Option<Instant>,
    /// Why open connections were reset in the last outage, if they were.
    lost: Option<Loss>,
    tick: Interval,
    meter: Meter,
    status: watch::Sender<Status>,
    workload_gone: Arc<Notify>,
    poke: Arc<Notify>,
}

enum Event {
    Detached(Detached),
    Silent(bool),
    Gone,
    Found(Result<Carried, Vec<(Path, SearchError)>>),
    BootstrapDue,
    Reached(Result<Reached, Failure>),
    ByPipe(Result<Carried, SearchError>),
    Trigger(Trigger),
    Poked,
    Tick,
}

impl Keeper {
    /// Keeps what was found at the start.
    pub(crate) fn new(
        host: String,
        found: Found,
        bootstrapper: Arc<Bootstrapper>,
        memory: TicketStore,
        notices: Triggers,
    ) -> Self {
        let Found {
            searcher,
            known,
            carried,
            ssh,
        } = found;
        let status = Status {
            host: host.clone(),
            state: State::Connected,
            path: None,
            round_trip: None,
            down_per_s: 0,
            up_per_s: 0,
            connections: 0,
            outage: None,
            lost: None,
        };
        let mut keeper = Self {
            host,
            searcher,
            bootstrapper,
            memory,
            notices,
            known,
            live: None,
            pending_ssh: ssh,
            told_from_ssh: false,
            short_lives: 0,
            is_attended: false,
            said: None,
            urgent: false,
            search: None,
            bootstrap: None,
            by_pipe: None,
            attempts: Attempts::new(Attempts::SSH),
            bootstrap_at: None,
            login_needed: false,
            down: None,
            moving: None,
            lost: None,
            tick: interval_at(ticker::next(), TICK),
            meter: Meter::default(),
            status: watch::Sender::new(status),
            workload_gone: Arc::default(),
            poke: Arc::default(),
        };
        keeper.watch_ways();
        keeper.install(carried);
        keeper
    }

    /// How the connection is, at all times.
    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Told when another agent was found than the one before: the workload is to be started there.
    pub(crate) fn workload_gone(&self) -> Arc<Notify> {
        self.workload_gone.clone()
    }

    /// What has it try again at once.
    pub(crate) fn poke(&self) -> Arc<Notify> {
        self.poke.clone()
    }

    fn session(&self) -> &Arc<Session> {
        &self.searcher.session
    }

    /// Keeps the session carried until that cannot be any more, and says why.
    pub(crate) async fn run(&mut self) -> Failure {
        loop {
            let event = self.next().await;
            let handled = match event {
                Event::Detached(parted) => self.parted(&parted),
                Event::Silent(true) => {
                    self.begin_outage();
                    self.look_for_any(SSH_AFTER);
                    Ok(())
                }
                Event::Silent(false) => {
                    self.calm();
                    Ok(())
                }
                Event::Gone => {
                    self.gone();
                    Ok(())
                }
                Event::Found(Ok(carried)) | Event::ByPipe(Ok(carried)) => {
                    self.install(carried);
                    Ok(())
                }
                Event::Found(Err(failed)) => self.nothing_found(&failed),
                Event::ByPipe(Err(error)) => self.nothing_found(&[(Path::Ssh, error)]),
                Event::BootstrapDue => {
                    self.bootstrap(Interaction::Background);
                    Ok(())
                }
                Event::Reached(reached) => self.reached(reached),
                Event::Poked => {
                    self.poked();
                    Ok(())
                }
                Event::Trigger(notice) => {
                    self.noticed(notice);
                    Ok(())
                }
                Event::Tick => {
                    self.meter.look(self.searcher.session.moved());
                    self.look_if_abandoned();
                    Ok(())
                }
            };
            if let Err(failure) = handled {
                return failure;
            }
            self.show();
        }
    }

    /// Tells the agent that the session is over, and ends it here.
    pub(crate) async fn leave(self) {
        if let Some(live) = self.live {
            Close::Left.close(&live.connection);
            // Until it is heard, or nobody hears.
            let _ = timeout(LEAVE, live.endpoint.wait_idle()).await;
        }
        self.searcher.session.end().await;
    }

    async fn next(&mut self) -> Event {
        let due = self.bootstrap_at.filter(|_| self.bootstrap.is_none());
        tokio::select! {
            event = Live::next(&mut self.live) => event,
            found = of(&mut self.search) => Event::Found(found),
            reached = of(&mut self.bootstrap) => Event::Reached(reached),
            carried = of(&mut self.by_pipe) => Event::ByPipe(carried),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::BootstrapDue,
            notice = self.notices.next() => Event::Trigger(notice),
            () = self.poke.notified() => Event::Poked,
            _ = self.tick.tick() => Event::Tick,
        }
    }

    fn watch_ways(&self) {
        self.notices
            .set_peers(self.known.ways.iter().filter_map(Path::address).collect());
    }

    fn show(&self) {
        self.tell(self.down.map(|since| since.elapsed()));
    }

    fn tell(&self, outage: Option<Duration>) {
        let state = state(
            self.live.is_some(),
            self.down.map(|since| since.elapsed()),
            self.login_needed,
        );
        let live = self.live.as_ref();
        self.status.send_replace(Status {
            host: self.host.clone(),
            state,
            path: live.map(|live| live.path.to_string()),
            round_trip: live.map(|live| live.connection.rtt()),
            down_per_s: self.meter.down,
            up_per_s: self.meter.up,
            connections: self.searcher.session.len(),
            outage,
            lost: self.lost,
        });
    }
}

/// What the user sees. Without an outage the session is carried, also while it moves from one connection to another.
fn state(is_live: bool, outage: Option<Duration>, login_needed: bool) -> State {
    match outage {
        None => State::Connected,
        Some(_) if login_needed => State::LoginNeeded,
        Some(outage) if is_live && outage < SUSPECT => State::Suspect,
        Some(_) => State::Reconnecting,
    }
}

/// The task's result; then there is no task any more. Never, when there is none. Dropping the future loses nothing.
async fn of<T>(task: &mut Task<T>) -> T {
    match task {
        Some(running) => {
            let done = running.await;
            *task = None;
            done
        }
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_to_another_connection_is_no_outage_and_a_login_comes_before_all_else() {
        let outage = |seconds| Some(Duration::from_secs(seconds));
        for (is_live, outage, login_needed, shown) in [
            (true, None, false, State::Connected),
            (false, None, false, State::Connected),
            (true, outage(1), false, State::Suspect),
            (false, outage(1), false, State::Reconnecting),
            (true, outage(6), false, State::Reconnecting),
            (true, outage(1), true, State::LoginNeeded),
            (false, outage(9), true, State::LoginNeeded),
        ] {
            assert_eq!(state(is_live, outage, login_needed), shown);
        }
    }
}
