//! What the supervisor acts upon: searches, ssh and connections that do what the test says.

mod rules;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::super::{
    Candidate, ConnectionId, Continuity, DetachReason, EndReason, Event, Paths, Refusal, Scope, Supervisor,
    policy::{ASKED_APART, HELD_KEY},
};
use crate::{
    connection::{bootstrap::Interaction, paths::Rank},
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
    /// It was pressed since ssh was last started.
    wish: bool,
    /// When ssh was last started because of it.
    asked_ssh: Option<Instant>,
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
            wish: false,
            asked_ssh: None,
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
            self.wish = false;
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

    /// Enter is pressed. A new wish has ssh run from now on or soon, and the search without a pause.
    pub(super) fn ask(&mut self) {
        let is_outage = self.supervisor.outage(self.now).is_some();
        let is_new = self.asked.is_none_or(|asked| self.now - asked >= HELD_KEY);
        self.wish |= is_outage && is_new;
        self.tell(Event::UserAsked);
        self.wish &= self.bootstrap.is_none();
        if is_outage && self.ended.is_none() {
            self.asked = Some(self.now);
            if is_new {
                let soon = self.now + ASKED_APART;
                let is_soon = self.supervisor.deadline().is_some_and(|at| at <= soon);
                assert!(self.bootstrap.is_some() || is_soon, "Enter starts ssh");
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
}

fn refusal(version: bool) -> Refusal {
    Refusal {
        version: version.then(|| "direct: another version".to_owned()),
    }
}
