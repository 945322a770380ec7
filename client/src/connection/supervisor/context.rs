//! State that outlives every phase, and the actions of the current event.

use std::time::{Duration, Instant};

use super::{
    action::Action,
    event::Paths,
    policy::{HELD_KEY, LONGEST_PAUSE, POLLED, SHORT_LIFE, SHORT_LIVES},
};
use crate::{
    connection::{backoff::Attempts, rank::Rank},
    error::{Failure, Kind},
    status::Loss,
};

#[derive(Debug)]
pub(super) struct Context {
    /// Time of the current event.
    pub(super) now: Instant,
    pub(super) paths: Paths,
    is_searching: bool,
    /// When ssh may be started again.
    pub(super) pace: Attempts,
    /// The same for starts that were asked for: these need not keep the other pace.
    pub(super) asked_pace: Attempts,
    /// Number of connections in a row that were lost right after they were installed.
    short_lives: u32,
    /// When the user last pressed Enter in an outage, unless ssh has had the terminal since.
    asked: Option<Instant>,
    /// When another process last queried the status in an outage.
    polled: Option<Instant>,
    /// The last failure of ssh that was printed.
    noted: Option<String>,
    /// The user knows that another machine answers in the host's place.
    knows_of_another_machine: bool,
    /// Why open streams were reset in the last outage, if they were.
    pub(super) loss: Option<Loss>,
    /// Empty between events.
    actions: Vec<Action>,
}

impl Context {
    pub(super) fn new(paths: Paths, now: Instant) -> Self {
        Self {
            now,
            paths,
            is_searching: false,
            pace: Attempts::default(),
            asked_pace: Attempts::default(),
            short_lives: 0,
            asked: None,
            polled: None,
            noted: None,
            knows_of_another_machine: false,
            loss: None,
            actions: Vec::new(),
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    pub(super) fn is_searching(&self) -> bool {
        self.is_searching
    }

    /// The search has ended.
    pub(super) fn searched(&mut self) {
        self.is_searching = false;
    }

    /// Replaces the search, if one is under way, by one on all known paths.
    pub(super) fn search(&mut self, pause: Duration) {
        let has_paths = !self.paths.is_empty();
        self.replace_search(Action::Search(pause), has_paths);
    }

    /// Replaces the search, if one is under way, by one on the paths that are better than `rank`.
    pub(super) fn improve(&mut self, rank: Rank) {
        let has_paths = self.paths.iter().any(|known| *known < rank);
        self.replace_search(Action::Improve(rank), has_paths);
    }

    fn replace_search(&mut self, search: Action, has_paths: bool) {
        if std::mem::replace(&mut self.is_searching, has_paths) {
            self.act(Action::StopSearch);
        }
        if has_paths {
            self.act(search);
        }
    }

    /// A connection was lost that was installed at `since`.
    pub(super) fn count_life(&mut self, since: Instant) {
        let is_short = self.now.saturating_duration_since(since) < SHORT_LIFE;
        self.short_lives = if is_short {
            self.short_lives.saturating_add(1)
        } else {
            0
        };
    }

    /// Pause before a search whose connection may not last either.
    pub(super) fn pause(&self) -> Duration {
        if self.short_lives < SHORT_LIVES {
            Duration::ZERO
        } else {
            SHORT_LIFE * self.short_lives.min(LONGEST_PAUSE)
        }
    }

    /// The earliest time for ssh in `after` or later.
    pub(super) fn ssh_at(&self, after: Duration) -> Instant {
        self.now + after.max(self.pace.wait(self.now, Attempts::SSH))
    }

    /// The earliest time for ssh if it is asked for.
    pub(super) fn ssh_asked_at(&self) -> Instant {
        self.now + self.asked_pace.wait(self.now, Attempts::ASKED)
    }

    /// Whether ssh was started, or reached the agent, less than its pace ago: another start now would gain nothing.
    pub(super) fn is_ssh_recent(&self) -> bool {
        self.pace.wait(self.now, Attempts::SSH) > Duration::ZERO
    }

    /// Whether Enter is a new request, and not the same key still held down.
    pub(super) fn is_new_key(&mut self) -> bool {
        is_new(&mut self.asked, self.now, HELD_KEY)
    }

    /// ssh had the terminal: the next Enter is a new request.
    pub(super) fn forget_key(&mut self) {
        self.asked = None;
    }

    /// Whether a query of the status is a new request, and not one of a program that polls it.
    pub(super) fn is_new_query(&mut self) -> bool {
        is_new(&mut self.polled, self.now, POLLED)
    }

    /// Prints a failure of ssh, unless it comes with every outage.
    pub(super) fn note_failure(&mut self, failure: &Failure) {
        if !is_expected(failure.kind) {
            self.note(failure.to_string());
        }
    }

    /// Prints a note, unless it was the last one.
    pub(super) fn note(&mut self, words: String) {
        if self.noted.as_ref() != Some(&words) {
            self.act(Action::Note(words.clone()));
            self.noted = Some(words);
        }
    }

    /// Prints that another machine answers in the host's place, once until the host is found again.
    pub(super) fn note_another_machine(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.knows_of_another_machine, true) {
            self.act(Action::Note(waits_for_its_own_host(failure)));
        }
    }

    /// A connection to the host was installed.
    pub(super) fn found_host(&mut self) {
        self.knows_of_another_machine = false;
    }
}

/// Whether a request at `now` is a new one: the last one is at least `apart` ago. Records it.
fn is_new(last: &mut Option<Instant>, now: Instant, apart: Duration) -> bool {
    let last = last.replace(now);
    last.is_none_or(|last| now.saturating_duration_since(last) >= apart)
}

fn waits_for_its_own_host(failure: &Failure) -> String {
    let host = failure.host.as_deref().unwrap_or("the host");
    let why = match failure.kind {
        Kind::HostKeyChanged => "its key is not the one that this machine knows",
        _ => failure.why.as_str(),
    };
    format!(
        "another machine answers in place of {host} ({why}); nothing is sent to it, and the session waits for its own host. \
         If that was replaced, press Ctrl-C and connect again"
    )
}

/// Whether an outage itself explains the failure.
fn is_expected(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Unreachable | Kind::UnknownHost | Kind::ConnectionLost | Kind::Interrupted
    )
}
