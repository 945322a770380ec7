//! Keeps the session carried: finds a connection at the start, a better one when there is one, and another one when it is
//! lost, for as long as it takes.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jq_common::protocol::session::Close;
use quinn::{ConnectionError, Endpoint};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, Interval, interval, sleep_until, timeout},
};

use super::{
    first::Found,
    reach::{Manner, Reached, Reacher, Ssh},
};
use crate::{
    error::{Failure, Kind},
    memory::Memory,
    notice::{Notice, Notices, backoff::Attempts},
    output::status::{State, Status},
    tunnel::{
        paths::Path,
        pulse::Heart,
        search::{Carried, Known, SearchError, Searcher},
        session::{Installed, Parted, Session},
    },
};

/// How long UDP alone is tried before ssh is asked as well.
const SSH_AFTER: Duration = Duration::from_millis(1000);

/// How long a connection may be silent before it counts as lost in what the user sees.
const SUSPECT: Duration = Duration::from_secs(5);

/// How long the agent may take to hear that the session is over.
const LEAVE: Duration = Duration::from_secs(1);

/// How often the numbers are looked at.
const TICK: Duration = Duration::from_secs(1);

/// A way to hear from a task that may not be there.
type Task<T> = Option<BoxFuture<'static, T>>;

/// The connection of a session, kept.
pub(super) struct Keeper {
    host: String,
    searcher: Searcher,
    reacher: Arc<Reacher>,
    memory: Memory,
    notices: Notices,
    known: Known,
    live: Option<Live>,
    /// The ssh connection through which the session goes, or is about to go.
    ssh: Option<Ssh>,
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
    /// The agent was another one when the connection came back.
    lost_something: bool,
    tick: Interval,
    meter: Meter,
    status: watch::Sender<Status>,
    workload_gone: Arc<Notify>,
    poke: Arc<Notify>,
}

/// The connection that carries the session.
struct Live {
    path: Path,
    connection: quinn::Connection,
    /// Closed last.
    endpoint: Endpoint,
    heart: Heart,
    talk: BoxFuture<'static, Parted>,
    gone: BoxFuture<'static, ()>,
}

/// Bytes a second, each way.
#[derive(Default)]
struct Meter {
    sent: u64,
    received: u64,
    up: u64,
    down: u64,
}

enum Event {
    Parted(Parted),
    Silent(bool),
    Gone,
    Found(Result<Carried, Vec<(Path, SearchError)>>),
    BootstrapDue,
    Reached(Result<Reached, Failure>),
    ByPipe(Result<Carried, SearchError>),
    Notice(Notice),
    Tick,
}

impl Keeper {
    /// Keeps what was found at the start.
    pub(super) fn new(
        host: String,
        found: Found,
        reacher: Arc<Reacher>,
        memory: Memory,
        notices: Notices,
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
            lost_something: false,
        };
        let mut keeper = Self {
            host,
            searcher,
            reacher,
            memory,
            notices,
            known,
            live: None,
            ssh,
            urgent: false,
            search: None,
            bootstrap: None,
            by_pipe: None,
            attempts: Attempts::new(Attempts::SSH),
            bootstrap_at: None,
            login_needed: false,
            down: None,
            lost_something: false,
            tick: interval(TICK),
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
    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Told when another agent was found than the one before: the workload is to be started there.
    pub(super) fn workload_gone(&self) -> Arc<Notify> {
        self.workload_gone.clone()
    }

    /// What has it try again at once.
    pub(super) fn poke(&self) -> Arc<Notify> {
        self.poke.clone()
    }

    fn session(&self) -> &Arc<Session> {
        &self.searcher.session
    }

    /// Keeps the session carried until that cannot be any more, and says why.
    pub(super) async fn run(&mut self) -> Failure {
        loop {
            let event = self.next().await;
            let handled = match event {
                Event::Parted(parted) => self.parted(&parted),
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
                    self.bootstrap(Manner::Background);
                    Ok(())
                }
                Event::Reached(reached) => {
                    self.reached(reached);
                    Ok(())
                }
                Event::Notice(notice) => {
                    self.noticed(notice);
                    Ok(())
                }
                Event::Tick => {
                    self.meter.look(self.searcher.session.moved());
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
    pub(super) async fn leave(self) {
        if let Some(live) = &self.live {
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
            notice = self.notices.next() => Event::Notice(notice),
            () = self.poke.notified() => Event::Notice(Notice::UserAsked),
            _ = self.tick.tick() => Event::Tick,
        }
    }

    fn parted(&mut self, parted: &Parted) -> Result<(), Failure> {
        tracing::info!(?parted, "parted");
        self.live = None;
        self.begin_outage();
        let ssh_after = match parted {
            Parted::Closed(Close::Superseded) => {
                return Err(Failure::new(
                    Kind::ConnectionLost,
                    "another jq-client has taken this session over",
                )
                .on(&self.host)
                .hint("give this one another name with --name to have both"));
            }
            Parted::Closed(Close::Ending | Close::Left) => {
                self.lost_something |= self.searcher.session.lose() > 0;
                Duration::ZERO
            }
            // Its process is gone: another one answers for it.
            Parted::Lost(ConnectionError::Reset) => Duration::ZERO,
            Parted::Restarting | Parted::Closed(_) | Parted::Lost(_) => SSH_AFTER,
        };
        self.look_for_any(ssh_after);
        Ok(())
    }

    /// The way that the connection takes leads nowhere, as the host or the ssh channel says.
    fn gone(&mut self) {
        tracing::info!("the way is gone");
        self.begin_outage();
        match &mut self.live {
            // What says so may be forged: until another connection is found, this one stays.
            Some(live) if live.path.rank() < Path::Ssh.rank() => live.gone = Box::pin(pending()),
            _ => self.live = None,
        }
        self.look_for_any(Duration::ZERO);
    }

    fn begin_outage(&mut self) {
        if self.down.is_none() {
            self.lost_something = false;
        }
        self.down.get_or_insert_with(Instant::now);
    }

    /// Looks for any connection, at once. ssh takes part after a while.
    fn look_for_any(&mut self, ssh_after: Duration) {
        if !self.urgent {
            self.urgent = true;
            self.search = self.searching();
        }
        if !self.login_needed {
            let now = Instant::now();
            let at = now + ssh_after.max(self.attempts.wait(now.into_std()));
            self.bootstrap_at = Some(self.bootstrap_at.map_or(at, |before| before.min(at)));
        }
    }

    fn searching(&self) -> Task<Result<Carried, Vec<(Path, SearchError)>>> {
        if self.known.ways.is_empty() {
            return None;
        }
        Some(Box::pin(self.searcher.clone().search(self.known.ways.clone())))
    }

    /// The connection works: looks at most for a better one.
    fn calm(&mut self) {
        self.urgent = false;
        self.down = None;
        self.login_needed = false;
        self.bootstrap = None;
        self.by_pipe = None;
        self.bootstrap_at = None;
        self.search = self.live.as_ref().and_then(|live| {
            let better: Vec<_> = self
                .known
                .ways
                .iter()
                .filter(|way| way.rank() < live.path.rank())
                .cloned()
                .collect();
            if better.is_empty() {
                return None;
            }
            let (searcher, path) = (self.searcher.clone(), live.path.clone());
            let improve: BoxFuture<'static, _> =
                Box::pin(async move { Ok(searcher.improve(better, &path).await) });
            Some(improve)
        });
    }

    /// Moves the session to a connection.
    fn install(&mut self, carried: Carried) {
        let Carried {
            attached,
            endpoint,
            path,
            gone,
        } = carried;
        let connection = attached.connection.clone();
        if !self.session().is_newer(&attached) {
            connection.close(quinn::VarInt::from_u32(0), b"");
            return;
        }
        // Two must not talk at once: what one has taken to tell, the other would not.
        if let Some(before) = self.live.take() {
            drop(before.talk);
            before.connection.close(quinn::VarInt::from_u32(0), b"");
        }
        let Some((installed, mut control)) = self.session().install(attached) else {
            return self.look_for_any(SSH_AFTER);
        };
        tracing::info!(%path, ?installed, "carried");
        if let Installed::Lost { .. } = installed {
            self.lost_something = true;
            self.workload_gone.notify_one();
        }
        if path != Path::Ssh {
            self.ssh = None;
        }
        let session = self.session().clone();
        self.searcher.round_trip = connection.rtt();
        self.live = Some(Live {
            path,
            heart: Heart::new(session.clone(), connection.clone()),
            endpoint,
            talk: {
                let connection = connection.clone();
                Box::pin(async move { session.talk(&connection, &mut control).await })
            },
            connection,
            gone,
        });
        self.memory.save(&self.searcher.identity, &self.known);
        let outage = self.down.map(|since| since.elapsed());
        self.calm();
        self.tell(outage);
    }

    fn nothing_found(&mut self, failed: &[(Path, SearchError)]) -> Result<(), Failure> {
        for (path, error) in failed {
            tracing::info!(%path, %error, "no way");
        }
        if let Some((path, error)) = failed.iter().find(|(_, error)| error.is_version()) {
            return Err(version(&self.host).because(format!("{path}: {error}")));
        }
        // Whatever is known is of no use. ssh knows more.
        self.look_for_any(Duration::ZERO);
        Ok(())
    }

    fn bootstrap(&mut self, manner: Manner) {
        self.bootstrap_at = None;
        self.attempts.start(Instant::now().into_std());
        let (reacher, keys) = (self.reacher.clone(), self.notices.keys());
        self.bootstrap = Some(Box::pin(async move {
            // ssh may ask on the terminal: what is typed is for it.
            let _paused = (manner == Manner::Attended).then(|| keys.pause());
            reacher.reach(manner).await
        }));
    }

    fn reached(&mut self, reached: Result<Reached, Failure>) {
        match reached {
            Ok(reached) => {
                self.login_needed = false;
                self.known = Known::from(&reached);
                self.searcher.agent = self.known.agent;
                self.watch_ways();
                self.search = self.searching();
                self.ssh = Some(reached.ssh);
                self.by_pipe = reached.pipe.map(|pipe| {
                    let udp_first = self.search.is_some();
                    let by_pipe: BoxFuture<'static, _> =
                        Box::pin(self.searcher.clone().by_pipe(pipe, udp_first));
                    by_pipe
                });
                self.look_for_any(Attempts::SSH);
            }
            Err(failure) => {
                tracing::info!(%failure, "ssh");
                self.login_needed = failure.needs_user();
                self.bootstrap_at = None;
                self.look_for_any(Attempts::SSH);
            }
        }
    }

    fn noticed(&mut self, notice: Notice) {
        if notice != Notice::NetworkChanged {
            self.attempts.skip();
        }
        match notice {
            Notice::UserAsked if !self.urgent => {}
            Notice::UserAsked => {
                self.search = self.searching();
                if self.bootstrap.is_none() {
                    let manner = if self.login_needed {
                        Manner::Attended
                    } else {
                        Manner::Background
                    };
                    self.bootstrap(manner);
                }
            }
            Notice::Woke { .. } | Notice::NetworkChanged => {
                // Whatever was being tried goes by the old network.
                self.urgent = false;
                self.look_for_any(SSH_AFTER * 2);
            }
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
        let state = match (&self.live, self.down) {
            (Some(_), None) => State::Connected,
            _ if self.login_needed => State::LoginNeeded,
            (Some(_), Some(since)) if since.elapsed() < SUSPECT => State::Suspect,
            _ => State::Reconnecting,
        };
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
            lost_something: self.lost_something,
        });
    }
}

impl Live {
    async fn next(live: &mut Option<Self>) -> Event {
        let Some(live) = live else {
            return pending().await;
        };
        tokio::select! {
            parted = &mut live.talk => Event::Parted(parted),
            silent = live.heart.changed() => Event::Silent(silent),
            () = &mut live.gone => Event::Gone,
        }
    }
}

impl Meter {
    fn look(&mut self, moved: jq_common::session::streams::Moved) {
        self.up = moved.sent - self.sent;
        self.down = moved.received - self.received;
        (self.sent, self.received) = (moved.sent, moved.received);
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

/// The agent there and this client do not understand each other.
pub(super) fn version(host: &str) -> Failure {
    Failure::new(Kind::AgentFailed, "the agent there speaks another version")
        .on(host)
        .hint("use the same jq-client everywhere, or end the other sessions and run this again")
}
