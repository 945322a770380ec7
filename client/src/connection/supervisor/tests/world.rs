//! What the supervisor acts upon: searches, ssh and connections that do what the test says.

mod rules;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    super::{
        Candidate, ConnectionId, Continuity, DetachReason, EndReason, Event, Paths, PipeFailure, Supervisor,
        phase::Phase,
        policy::{HELD_KEY, POLLED},
    },
    matrix,
};
use crate::{
    connection::{backoff::Attempts, interaction::Interaction, rank::Rank},
    error::{Failure, Kind},
    status::State,
};

/// A search under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    /// Only better paths than this are tried; none: all of them.
    pub(super) better_than: Option<Rank>,
    /// When its pause is over.
    pub(super) from: Instant,
}

/// An ssh under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bootstrap {
    pub(super) interaction: Interaction,
    pub(super) since: Instant,
    /// How long this machine had been suspended then.
    pub(super) suspended: Duration,
    /// When this machine first resumed or changed its network since then.
    pub(super) stale_since: Option<Instant>,
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
    pub(super) bootstrap: Option<Bootstrap>,
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
    /// How long this machine was suspended so far, in which `now` stood still.
    suspended: Duration,
    /// When ssh was last started, or last got there: `now` and `suspended` then.
    last_ssh: Option<(Instant, Duration)>,
    /// When ssh was last started before its pace allowed it, because it was asked for.
    last_quick: Option<(Instant, Duration)>,
    /// The user wants the connection back, and ssh was not started since.
    is_wanted: bool,
    /// The user wants to log in, and ssh was not started since.
    wants_to_log_in: bool,
    /// When Enter was last pressed in an outage, unless ssh had the terminal since.
    asked: Option<Instant>,
    /// When the status was last queried in an outage.
    polled: Option<Instant>,
    /// ssh has failed for want of the user, and nothing has changed since.
    wants_login: bool,
    last_note: Option<String>,
    /// The user was told of another machine since a connection was installed.
    knows_of_another_machine: bool,
    owes_steps: bool,
    /// Since when nothing has been installed.
    bare_since: Option<Instant>,
    pub(super) ended: Option<EndReason>,
    /// Bootstraps so far.
    pub(super) bootstraps: usize,
    /// The connections closed so far.
    pub(super) closed: Vec<ConnectionId>,
    /// Which event was told in which phase.
    pub(super) met: BTreeSet<(&'static str, &'static str)>,
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
            suspended: Duration::ZERO,
            last_ssh: None,
            last_quick: None,
            is_wanted: false,
            wants_to_log_in: false,
            asked: None,
            polled: None,
            wants_login: false,
            last_note: None,
            knows_of_another_machine: false,
            owes_steps: false,
            bare_since: Some(now),
            ended: None,
            bootstraps: 0,
            closed: Vec::new(),
            met: BTreeSet::new(),
        };
        let first = world.connect(rank);
        world.tell(Event::Searched(Some(first)));
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
            self.settle();
        }
        self.tell(Event::Heard(id));
    }

    /// A connection works.
    pub(super) fn settle(&mut self) {
        self.wants_login = false;
        self.wants_to_log_in = false;
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
        let tried = |rank: &&Rank| search.better_than.is_none_or(|current| **rank < current);
        let tried: Vec<_> = self.paths.iter().filter(tried).copied().collect();
        let Some(rank) = tried.iter().rev().find(|rank| **rank <= wanted).or(tried.first()) else {
            panic!("a search without paths");
        };
        self.search = None;
        let found = self.connect(*rank);
        self.tell(Event::Searched(Some(found)));
    }

    /// Every path that is tried is refused, perhaps by somebody else than the agent, for whatever reason they choose.
    pub(super) fn search_is_refused(&mut self) {
        if self.search.take_if(|search| search.from <= self.now).is_some() {
            self.tell(Event::Searched(None));
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
            let version = version.then(|| "ssh: another version".to_owned());
            self.tell(Event::PipeTried(Err(PipeFailure { version })));
        }
    }

    pub(super) fn bootstrap_succeeds(&mut self, paths: &Paths, has_pipe: bool) {
        if self.bootstrap.take().is_some() {
            self.paths.clone_from(paths);
            self.has_pipe = has_pipe;
            self.last_ssh = Some((self.now, self.suspended));
            self.wants_login = false;
            let paths = paths.clone();
            self.tell(Event::Bootstrapped { paths, has_pipe });
        }
    }

    pub(super) fn bootstrap_fails(&mut self, kind: Kind) {
        if let Some(Bootstrap { interaction, .. }) = self.bootstrap.take() {
            self.end_attempt(interaction);
            let failure = Failure::new(kind, "ssh");
            let is_needed = self.installed.is_none() || self.is_outage();
            let is_another = failure.is_another_machine();
            self.wants_login = failure.needs_user() && is_needed;
            self.tell(Event::BootstrapFailed(failure));
            let knows = !is_another || self.knows_of_another_machine;
            assert!(knows, "the user is not told of another machine");
            let searches_any = self.search.is_some_and(|search| search.better_than.is_none());
            assert!(
                is_needed || !searches_any,
                "the connection works, and another one is searched"
            );
        }
    }

    /// ssh has ended without the agent. If it had the terminal, its steps are to be removed there.
    fn end_attempt(&mut self, interaction: Interaction) {
        if interaction == Interaction::Attended {
            self.owes_steps = true;
            self.asked = None;
        }
    }

    /// This machine resumes, or, without a time, this process goes on.
    pub(super) fn wake(&mut self, suspended: Duration) {
        self.suspended += suspended;
        if !suspended.is_zero() {
            self.outdate();
        }
        self.tell(Event::Woke { suspended });
    }

    pub(super) fn change_network(&mut self) {
        self.outdate();
        self.tell(Event::NetworkChanged);
    }

    fn outdate(&mut self) {
        self.wants_login = false;
        if let Some(bootstrap) = &mut self.bootstrap {
            bootstrap.stale_since.get_or_insert(self.now);
        }
    }

    /// Enter is pressed. A new wish has ssh run soon, and the search without a pause.
    pub(super) fn ask(&mut self) {
        let is_new = self.asked.is_none_or(|asked| self.now - asked >= HELD_KEY);
        if self.is_outage() {
            self.asked = Some(self.now);
            if is_new {
                self.is_wanted = true;
                self.wants_to_log_in = self.state() == State::LoginNeeded && !self.is_logging_in();
            }
        }
        let is_wish = self.is_outage() && is_new;
        self.tell(Event::UserAsked);
        if is_wish && self.ended.is_none() {
            self.check_that_all_is_tried("Enter");
        }
    }

    /// Another process queries the status. A program that does so again and again is one wish.
    pub(super) fn query_status(&mut self) {
        let is_new = self.polled.is_none_or(|polled| self.now - polled >= POLLED);
        let is_wish = self.is_outage() && is_new;
        if self.is_outage() {
            self.polled = Some(self.now);
        }
        self.is_wanted |= is_wish;
        self.tell(Event::StatusAsked);
        if is_wish && self.ended.is_none() {
            self.check_that_all_is_tried("a query of the status");
        }
    }

    fn check_that_all_is_tried(&self, why: &str) {
        let deadline = self.supervisor.deadline();
        let is_soon = deadline.is_some_and(|deadline| deadline <= self.now + Attempts::ASKED);
        let is_for_the_user = self.state() == State::LoginNeeded && !self.wants_to_log_in;
        assert!(
            self.bootstrap.is_some() || is_soon || is_for_the_user,
            "{why} starts ssh"
        );
        let is_searched = self.search.is_some_and(|search| search.from <= self.now);
        assert!(is_searched || self.paths.is_empty(), "{why} searches at once");
    }

    pub(super) fn is_logging_in(&self) -> bool {
        self.bootstrap
            .is_some_and(|bootstrap| bootstrap.interaction == Interaction::Attended)
    }

    pub(super) fn is_outage(&self) -> bool {
        self.supervisor.outage(self.now).is_some()
    }

    fn phase(&self) -> &'static str {
        match self.supervisor.phase {
            Phase::Connected(_) => "Connected",
            Phase::Replacing(..) => "Replacing",
            Phase::Moving { recovery: None, .. } => "Moving to a better path",
            Phase::Moving {
                recovery: Some(_), ..
            } => "Moving",
            Phase::Suspect(..) => "Suspect",
            Phase::Down(_) => "Down",
            Phase::Ended => "Ended",
        }
    }

    /// Tells the supervisor, does what it asks for, and checks what must hold then.
    pub(super) fn tell(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.met.insert((self.phase(), matrix::name(&event)));
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
