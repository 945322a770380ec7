//! The world as it is told what to do, and the rules that must hold then.

use std::time::Duration;

use super::{Search, World};
use crate::{
    connection::{
        backoff::Attempts,
        bootstrap::Interaction,
        supervisor::{
            Action, Candidate, ConnectionId, Continuity, DetachReason, EndReason, Event, Scope,
            policy::{ASKED_APART, HANGS, HELD_KEY, LONGEST_PAUSE, MOVE, SHORT_LIFE},
        },
    },
    error::Kind,
    status::State,
};

impl World {
    /// Does what the supervisor asks for after an event, and gives what came of it where that is known at once.
    pub(super) fn perform(&mut self, event: &Event, action: Action) -> Option<Event> {
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
        let is_wished = by_user || self.wish;
        // Nothing but the wish allows it.
        let is_for_the_wish = is_wished && !is_in_pace && !self.woke;
        if is_for_the_wish {
            let is_apart = self.asked_ssh.is_none_or(|last| self.now - last >= ASKED_APART);
            assert!(is_apart, "Enter starts ssh too fast");
        }
        assert!(is_in_pace || is_wished || self.woke, "ssh is started too fast");
        if interaction == Interaction::Attended {
            assert!(is_wished && self.wants_login, "ssh asks unasked");
        }
        if by_user || is_for_the_wish {
            self.asked_ssh = Some(self.now);
        }
        self.wish = false;
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
        let has_run = self.last_ssh.map_or(Duration::ZERO, |last| self.now - last);
        assert!(
            *event != Event::UserAsked || self.wants_login || has_run >= HANGS,
            "Enter stops what may be about to succeed"
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
        self.wish = false;
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

    /// What must hold after each event.
    pub(super) fn check(&mut self) {
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
