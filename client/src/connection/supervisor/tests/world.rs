//! What the supervisor acts upon: searches, ssh and connections that do as the test says, and what must hold of them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::super::{
    Action, Candidate, ConnectionId, Continuity, DetachReason, EndReason, Event, Paths, Refusal, Scope,
    Supervisor,
    policy::{HELD_KEY, LONGEST_PAUSE, MOVE, SHORT_LIFE},
};
use crate::{
    connection::{backoff::Attempts, bootstrap::Interaction, paths::Rank},
    error::{Failure, Kind},
    status::State,
};

/// A search under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    pub(super) scope: Scope,
    /// When its pause is over.
    pub(super) from: Instant,
}

/// An open connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) rank: Rank,
    /// It carries nothing any more, and the supervisor was told.
    pub(super) is_dead: bool,
}

/// The world.
pub(super) struct World {
    supervisor: Supervisor,
    pub(super) now: Instant,
    pub(super) paths: Paths,
    pub(super) search: Option<Search>,
    pub(super) bootstrap: Option<Interaction>,
    pub(super) pipe: Option<Instant>,
    /// The last bootstrap's ssh channel, until it is used.
    has_pipe: bool,
    open: BTreeMap<ConnectionId, Open>,
    pub(super) installed: Option<ConnectionId>,
    next_id: u64,
    /// What the next installations come to.
    pub(super) next_install: Option<Continuity>,
    /// Whether streams are open that a reset concerns.
    pub(super) has_streams: bool,
    /// When ssh was last started, or last got there.
    last_ssh: Option<Instant>,
    /// This machine woke since ssh was last started.
    woke: bool,
    /// When Enter was last pressed in an outage.
    asked: Option<Instant>,
    /// ssh got there since a connection worked.
    told_by_ssh: bool,
    /// ssh has failed for want of the user, and nothing has changed since.
    wants_login: bool,
    last_note: Option<String>,
    owes_steps: bool,
    /// Since when nothing has been installed.
    bare_since: Option<Instant>,
    pub(super) ended: Option<EndReason>,
    /// Bootstraps so far.
    pub(super) bootstraps: usize,
    /// The connections closed so far.
    pub(super) closed: Vec<ConnectionId>,
}

impl World {
    /// A session whose first connection was just made.
    pub(super) fn new(paths: Paths, rank: Rank) -> Self {
        let now = Instant::now();
        let mut world = Self {
            supervisor: Supervisor::new(paths.clone(), now),
            now,
            paths,
            search: None,
            bootstrap: None,
            pipe: None,
            has_pipe: false,
            open: BTreeMap::new(),
            installed: None,
            next_id: 0,
            next_install: Some(Continuity::Kept),
            has_streams: false,
            last_ssh: None,
            woke: false,
            asked: None,
            told_by_ssh: false,
            wants_login: false,
            last_note: None,
            owes_steps: false,
            bare_since: Some(now),
            ended: None,
            bootstraps: 0,
            closed: Vec::new(),
        };
        let first = world.connect(rank);
        world.tell(Event::Searched(Ok(first)));
        world
    }

    /// A connection on which the agent carries the session from now on.
    pub(super) fn connect(&mut self, rank: Rank) -> Candidate {
        self.next_id += 1;
        let id = ConnectionId(self.next_id);
        let is_dead = false;
        self.open.insert(id, Open { rank, is_dead });
        Candidate { id, rank }
    }

    pub(super) fn state(&self) -> State {
        self.supervisor.state(self.now)
    }

    /// The installed connection, with what is known of it.
    pub(super) fn current(&self) -> Option<(ConnectionId, Open)> {
        let id = self.installed?;
        Some((id, self.open[&id]))
    }

    // What happens.

    /// Time passes, and deadlines are kept.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.supervisor.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.tell(Event::Deadline);
            let next = self.supervisor.deadline();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a deadline that leads to nothing"
            );
        }
        self.now = until;
        self.check();
    }

    /// Time passes, and nobody looks.
    pub(super) fn leap(&mut self, time: Duration) {
        self.now += time;
    }

    /// The current connection carries nothing any more.
    pub(super) fn part(&mut self, reason: DetachReason) {
        let Some(id) = self.installed else { return };
        let was_outage = self.supervisor.outage(self.now).is_some();
        let is_move = reason == DetachReason::Fenced && (self.search.is_some() || self.pipe.is_some());
        self.kill(id);
        self.tell(Event::Detached(id, reason));
        if self.ended.is_none() {
            let is_outage = self.supervisor.outage(self.now).is_some();
            assert_eq!(is_outage, was_outage || !is_move, "{reason:?}");
        }
    }

    /// The path of the current connection is said to lead nowhere; of an ssh channel that is true.
    pub(super) fn say_gone(&mut self) {
        let Some((id, open)) = self.current() else { return };
        if open.rank == Rank::Ssh {
            self.kill(id);
        }
        self.tell(Event::Gone(id));
    }

    /// The current connection is heard again.
    pub(super) fn be_heard(&mut self) {
        let Some(id) = self.installed else { return };
        if self.supervisor.outage(self.now).is_some() {
            self.told_by_ssh = false;
            self.wants_login = false;
        }
        self.tell(Event::Heard(id));
    }

    fn kill(&mut self, id: ConnectionId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.is_dead = true;
        }
    }

    /// The search finds a path as good as this, if it tries one.
    pub(super) fn search_finds(&mut self, wanted: Rank) {
        let Some(search) = self.search.filter(|search| search.from <= self.now) else {
            return;
        };
        let tried = |rank: &&Rank| match search.scope {
            Scope::Any => true,
            Scope::BetterThan(current) => **rank < current,
        };
        let tried: Vec<_> = self.paths.iter().filter(tried).copied().collect();
        let Some(rank) = tried.iter().rev().find(|rank| **rank <= wanted).or(tried.first()) else {
            panic!("a search without paths");
        };
        self.search = None;
        let found = self.connect(*rank);
        self.tell(Event::Searched(Ok(found)));
    }

    /// Whoever answers refuses on all paths. A search for a better one goes on all the same.
    pub(super) fn search_is_refused(&mut self, version: bool) {
        if let Some(search) = self.search
            && search.scope == Scope::Any
            && search.from <= self.now
        {
            self.search = None;
            self.tell(Event::Searched(Err(refusal(version))));
        }
    }

    pub(super) fn pipe_connects(&mut self) {
        if self.pipe.take_if(|from| *from <= self.now).is_some() {
            let found = self.connect(Rank::Ssh);
            self.tell(Event::PipeTried(Ok(found)));
        }
    }

    pub(super) fn pipe_is_refused(&mut self, version: bool) {
        if self.pipe.take_if(|from| *from <= self.now).is_some() {
            self.tell(Event::PipeTried(Err(refusal(version))));
        }
    }

    pub(super) fn bootstrap_succeeds(&mut self, paths: &Paths, has_pipe: bool) {
        if self.bootstrap.take().is_some() {
            self.paths.clone_from(paths);
            self.has_pipe = has_pipe;
            self.last_ssh = Some(self.now);
            self.told_by_ssh = true;
            self.wants_login = false;
            let paths = paths.clone();
            self.tell(Event::Bootstrapped { paths, has_pipe });
        }
    }

    pub(super) fn bootstrap_fails(&mut self, kind: Kind) {
        if let Some(interaction) = self.bootstrap.take() {
            self.owes_steps = interaction == Interaction::Attended && kind != Kind::HostKeyChanged;
            let failure = Failure::new(kind, "ssh");
            let is_needed = self.installed.is_none() || self.supervisor.outage(self.now).is_some();
            self.wants_login = failure.needs_user() && is_needed;
            self.tell(Event::BootstrapFailed(failure));
            let searches_any = self.search.is_some_and(|search| search.scope == Scope::Any);
            assert!(
                is_needed || !searches_any,
                "the connection works, and another one is searched"
            );
        }
    }

    pub(super) fn wake(&mut self) {
        self.woke = true;
        self.wants_login = false;
        self.tell(Event::Woke);
    }

    pub(super) fn change_network(&mut self) {
        self.wants_login = false;
        self.tell(Event::NetworkChanged);
    }

    /// Enter is pressed. A new wish has ssh run from now on at the latest, and the search without a pause.
    pub(super) fn ask(&mut self) {
        let is_outage = self.supervisor.outage(self.now).is_some();
        self.tell(Event::UserAsked);
        if is_outage && self.ended.is_none() {
            let is_new = self.asked.is_none_or(|asked| self.now - asked >= HELD_KEY);
            self.asked = Some(self.now);
            if is_new {
                assert!(self.bootstrap.is_some(), "Enter starts ssh");
                let is_searched = self.search.is_some_and(|search| search.from <= self.now);
                assert!(is_searched || self.paths.is_empty(), "Enter searches at once");
            }
        }
    }

    /// Tells the supervisor, does what it asks for, and checks what must hold then.
    pub(super) fn tell(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let actions = self.supervisor.on(event.clone(), self.now);
            assert!(actions.len() < 12, "{event:?}: {actions:?}");
            for action in actions {
                assert!(self.ended.is_none(), "{action:?} after the end");
                events.extend(self.perform(&event, action));
            }
            assert!(!self.owes_steps, "steps of a login are left after {event:?}");
        }
        self.check();
    }

    fn perform(&mut self, event: &Event, action: Action) -> Option<Event> {
        match action {
            Action::Search(scope, pause) => self.begin_search(scope, pause),
            Action::StopSearch => assert!(self.search.take().is_some(), "no search is under way"),
            Action::Bootstrap(interaction) => self.begin_bootstrap(event, interaction),
            Action::StopBootstrap => self.stop_bootstrap(event),
            Action::TryPipe(pause) => {
                assert!(self.pipe.is_none(), "two attempts over the ssh channel");
                assert!(std::mem::take(&mut self.has_pipe), "no ssh channel");
                self.pipe = Some(self.now + pause);
            }
            Action::StopPipe => assert!(self.pipe.take().is_some(), "no attempt is under way"),
            Action::Install(id) => return Some(self.install(id)),
            Action::Close(id) => {
                let open = self.open.remove(&id).expect("closed twice");
                assert!(
                    open.is_dead || self.installed != Some(id),
                    "closed before another one was installed"
                );
                self.installed = self.installed.filter(|installed| *installed != id);
                self.closed.push(id);
            }
            Action::ResetStreams(loss) => {
                assert!(
                    matches!(
                        event,
                        Event::Detached(_, DetachReason::AgentEnding | DetachReason::GivenUp)
                    ),
                    "streams are reset for {event:?}"
                );
                return std::mem::take(&mut self.has_streams).then_some(Event::StreamsReset(loss));
            }
            Action::RestartWorkload => assert!(
                matches!(event, Event::Installed(_, Continuity::Broken(_))),
                "the workload is started for {event:?}"
            ),
            Action::SaveTicket => assert!(matches!(event, Event::Installed(..))),
            Action::Note(words) => {
                assert_ne!(self.last_note.as_ref(), Some(&words), "noted twice");
                self.last_note = Some(words);
            }
            Action::DropSteps => self.owes_steps = false,
            Action::End(reason) => self.end(event, reason),
        }
        None
    }

    fn begin_search(&mut self, scope: Scope, pause: Duration) {
        assert!(self.search.is_none(), "two searches at once");
        let tries_one = match scope {
            Scope::Any => !self.paths.is_empty(),
            Scope::BetterThan(current) => self.paths.iter().any(|rank| *rank < current),
        };
        assert!(tries_one, "a search without paths");
        self.search = Some(Search {
            scope,
            from: self.now + pause,
        });
    }

    fn begin_bootstrap(&mut self, event: &Event, interaction: Interaction) {
        assert!(self.bootstrap.is_none(), "two bootstraps at once");
        let by_user = *event == Event::UserAsked;
        if by_user {
            let is_held = self.asked.is_some_and(|asked| self.now - asked < HELD_KEY);
            assert!(!is_held, "a key that is held starts ssh more than once");
        }
        let is_in_pace = self.last_ssh.is_none_or(|last| self.now - last >= Attempts::SSH);
        assert!(is_in_pace || by_user || self.woke, "ssh is started too fast");
        if interaction == Interaction::Attended {
            assert!(by_user && self.wants_login, "ssh asks unasked");
        }
        self.bootstrap = Some(interaction);
        self.last_ssh = Some(self.now);
        self.woke = false;
        self.bootstraps += 1;
    }

    fn stop_bootstrap(&mut self, event: &Event) {
        let stopped = self.bootstrap.take().expect("no bootstrap is under way");
        let is_over = matches!(event, Event::Installed(..) | Event::Heard(_));
        let is_stale = matches!(event, Event::UserAsked | Event::Woke | Event::NetworkChanged);
        let is_attended = stopped == Interaction::Attended;
        assert!(
            is_over || (is_stale && !is_attended),
            "ssh is stopped for {event:?}"
        );
        self.owes_steps = is_attended;
    }

    fn install(&mut self, id: ConnectionId) -> Event {
        let open = self.open[&id];
        let candidate = Candidate { id, rank: open.rank };
        let Some(continuity) = self.next_install else {
            self.next_install = Some(Continuity::Kept);
            self.open.remove(&id);
            return Event::NotInstalled;
        };
        self.next_install = Some(Continuity::Kept);
        self.installed = Some(id);
        self.told_by_ssh = false;
        self.wants_login = false;
        Event::Installed(candidate, continuity)
    }

    fn end(&mut self, event: &Event, reason: EndReason) {
        match &reason {
            EndReason::Superseded => {
                assert!(
                    matches!(event, Event::Detached(_, DetachReason::Superseded)),
                    "{event:?}"
                );
            }
            EndReason::HostKeyChanged(_) => {
                assert!(
                    matches!(event, Event::BootstrapFailed(failure) if failure.kind == Kind::HostKeyChanged)
                );
            }
            EndReason::VersionDiffers(_) => {
                assert!(
                    matches!(event, Event::Searched(Err(_)) | Event::PipeTried(Err(_))),
                    "{event:?}"
                );
                assert!(self.told_by_ssh, "an unauthenticated host ended the session");
            }
        }
        self.ended = Some(reason);
        (self.search, self.bootstrap, self.pipe) = (None, None, None);
    }

    // What must hold.

    fn check(&mut self) {
        if self.ended.is_some() {
            return;
        }
        self.bare_since = match self.installed {
            Some(_) => None,
            None => self.bare_since.or(Some(self.now)),
        };
        let state = self.state();
        let is_outage = self.supervisor.outage(self.now).is_some();
        assert_eq!(state != State::Connected, is_outage, "{state:?}");
        let is_late = self
            .supervisor
            .deadline()
            .is_some_and(|deadline| deadline <= self.now);
        let is_bare = self.bare_since.is_some_and(|since| self.now - since > MOVE);
        assert!(is_outage || is_late || !is_bare, "nothing carries the session");
        assert!(self.open.keys().eq(&self.installed), "connections are left open");
        if state == State::LoginNeeded {
            let is_logging_in = self.bootstrap == Some(Interaction::Attended);
            assert!(self.wants_login || is_logging_in, "nobody is needed");
        } else if is_outage {
            assert!(!self.wants_login, "the user is needed");
        }
        self.check_that_something_is_scheduled(is_outage);
    }

    fn check_that_something_is_scheduled(&self, is_outage: bool) {
        let deadline = self.supervisor.deadline();
        let goes_on = deadline.is_some() || self.bootstrap.is_some();
        let Some((_, current)) = self.current() else {
            return assert!(goes_on, "nothing is scheduled while nothing carries the session");
        };
        if is_outage {
            assert!(goes_on, "nothing is scheduled in an outage");
            let is_searched = self
                .search
                .is_some_and(|search| search.from <= self.now + SHORT_LIFE * LONGEST_PAUSE);
            assert!(
                is_searched || self.paths.is_empty(),
                "nothing is searched in an outage"
            );
        } else if self.paths.iter().any(|rank| *rank < current.rank) {
            assert!(self.search.is_some(), "no better path is searched");
        }
    }
}

fn refusal(version: bool) -> Refusal {
    Refusal {
        version: version.then(|| "direct: another version".to_owned()),
    }
}
