//! The world as it is told what to do, and the rules that must hold then.

use std::time::{Duration, Instant};

use super::{Bootstrap, Search, World};
use crate::{
    connection::{
        backoff::Attempts,
        interaction::Interaction,
        rank::Rank,
        supervisor::{
            Action, Candidate, ConnectionId, Continuity, DetachReason, EndReason, Event, PipeFailure,
            policy::{BACKGROUND_LIMIT, LOGIN_GRACE, LOGIN_LIMIT, LONGEST_PAUSE, MOVE, SHORT_LIFE},
        },
    },
    status::State,
};

impl World {
    /// Does what the supervisor asks for after an event, and gives what came of it where that is known at once.
    pub(super) fn perform(&mut self, event: &Event, action: Action) -> Option<Event> {
        match action {
            Action::Search(pause) => self.begin_search(None, pause),
            Action::Improve(rank) => self.begin_search(Some(rank), Duration::ZERO),
            Action::StopSearch => assert!(self.search.take().is_some(), "no search is under way"),
            Action::Bootstrap(interaction) => self.begin_bootstrap(interaction),
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
            Action::Note(words) => self.note(words),
            Action::DropSteps => self.owes_steps = false,
            Action::End(reason) => self.end(event, reason),
        }
        None
    }

    fn begin_search(&mut self, better_than: Option<Rank>, pause: Duration) {
        assert!(self.search.is_none(), "two searches at once");
        let is_tried = |rank: &Rank| better_than.is_none_or(|current| *rank < current);
        assert!(self.paths.iter().any(is_tried), "a search without paths");
        self.search = Some(Search {
            better_than,
            from: self.now + pause,
        });
    }

    fn note(&mut self, words: String) {
        if words.starts_with("another machine answers") {
            let knows = std::mem::replace(&mut self.knows_of_another_machine, true);
            return assert!(!knows, "told of another machine twice");
        }
        assert_ne!(self.last_note.as_ref(), Some(&words), "noted twice");
        self.last_note = Some(words);
    }

    fn begin_bootstrap(&mut self, interaction: Interaction) {
        assert!(self.bootstrap.is_none(), "two bootstraps at once");
        let now = (self.now, self.suspended);
        let apart = |last: Option<(Instant, Duration)>| {
            last.map_or(Duration::MAX, |(at, suspended)| now.0 - at + (now.1 - suspended))
        };
        if apart(self.last_ssh) < Attempts::SSH {
            assert!(self.is_wanted, "ssh is started too fast");
            assert!(
                apart(self.last_quick) >= Attempts::ASKED,
                "ssh is started without a floor"
            );
            self.last_quick = Some(now);
        }
        if interaction == Interaction::Attended {
            assert!(self.wants_to_log_in, "ssh asks unasked");
        }
        self.bootstrap = Some(Bootstrap {
            interaction,
            since: self.now,
            suspended: self.suspended,
            stale_since: None,
        });
        self.last_ssh = Some(now);
        self.is_wanted = false;
        self.wants_to_log_in = false;
        self.bootstraps += 1;
    }

    fn stop_bootstrap(&mut self, event: &Event) {
        let stopped = self.bootstrap.take().expect("no bootstrap is under way");
        let is_attended = stopped.interaction == Interaction::Attended;
        let may_stop = match event {
            Event::Installed(..) | Event::Heard(_) => true,
            // A wish replaces what may hang, and what cannot ask.
            Event::UserAsked => !is_attended && (self.wants_to_log_in || self.is_old(&stopped)),
            Event::StatusAsked => !is_attended && self.is_old(&stopped),
            Event::Deadline => self.is_over(&stopped),
            _ => false,
        };
        assert!(may_stop, "ssh is stopped for {event:?}: {stopped:?}");
        // It has shown nothing else than that the user is needed.
        self.wants_login |= is_attended && *event == Event::Deadline;
        self.end_attempt(stopped.interaction);
    }

    /// Whether another ssh may be started in its place without harm to its pace.
    fn is_old(&self, bootstrap: &Bootstrap) -> bool {
        let age = self.now - bootstrap.since + (self.suspended - bootstrap.suspended);
        age >= Attempts::SSH
    }

    /// Whether its time is over.
    fn is_over(&self, bootstrap: &Bootstrap) -> bool {
        let age = self.now - bootstrap.since;
        let stale_since = bootstrap.stale_since;
        match bootstrap.interaction {
            Interaction::Attended => {
                age >= LOGIN_LIMIT || stale_since.is_some_and(|since| self.now - since >= LOGIN_GRACE)
            }
            Interaction::Background => {
                age >= BACKGROUND_LIMIT || (stale_since.is_some() && self.is_old(bootstrap))
            }
        }
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
        self.knows_of_another_machine = false;
        self.settle();
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
            EndReason::VersionDiffers(_) => {
                let is_by_ssh = matches!(event, Event::PipeTried(Err(PipeFailure { version: Some(_) })));
                assert!(is_by_ssh, "{event:?} may be forged");
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
        let is_for_the_user = self.wants_login || self.wants_to_log_in;
        if state == State::LoginNeeded {
            assert!(is_for_the_user || self.is_logging_in(), "nobody is needed");
        } else if is_outage {
            assert!(!is_for_the_user, "the user is needed");
        }
        assert_eq!(
            self.supervisor.is_logging_in(),
            is_outage && (self.is_logging_in() || self.wants_to_log_in)
        );
        if let Some(bootstrap) = self.bootstrap {
            let limit = match bootstrap.interaction {
                Interaction::Attended => LOGIN_LIMIT,
                Interaction::Background => BACKGROUND_LIMIT,
            };
            assert!(is_late || self.now - bootstrap.since <= limit, "ssh has no limit");
        }
        self.check_that_something_is_scheduled(is_outage);
    }

    fn check_that_something_is_scheduled(&self, is_outage: bool) {
        let goes_on = self.supervisor.deadline().is_some();
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
