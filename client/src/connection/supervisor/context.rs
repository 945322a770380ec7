//! What outlives every phase, and the actions that the event at hand leads to.

use std::time::{Duration, Instant};

use super::{
    action::{Action, Scope},
    event::Paths,
    policy::{ASKED_APART, HELD_KEY, LONGEST_PAUSE, SHORT_LIFE, SHORT_LIVES},
};
use crate::{connection::backoff::Attempts, status::Loss};

#[derive(Debug)]
pub(super) struct Context {
    /// The moment of the event at hand.
    pub(super) now: Instant,
    pub(super) paths: Paths,
    /// What is being searched.
    search: Option<Scope>,
    /// When ssh may be started again.
    pub(super) pace: Attempts,
    /// How many connections in a row were lost at once.
    short_lives: u32,
    /// When the user last pressed Enter in an outage.
    asked: Option<Instant>,
    /// When ssh was last started because of that.
    asked_ssh: Option<Instant>,
    /// The last failure that the user was told.
    noted: Option<String>,
    /// Why open streams were reset in the last outage, if they were.
    pub(super) loss: Option<Loss>,
    /// What is to be done. Empty between events.
    actions: Vec<Action>,
}

impl Context {
    pub(super) fn new(paths: Paths, now: Instant) -> Self {
        Self {
            now,
            paths,
            search: None,
            pace: Attempts::new(Attempts::SSH),
            short_lives: 0,
            asked: None,
            asked_ssh: None,
            noted: None,
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
        self.search.is_some()
    }

    /// The search ended by itself.
    pub(super) fn searched(&mut self) {
        self.search = None;
    }

    /// Searches for this from now on, and for nothing else; not at all where no such path is known.
    pub(super) fn search(&mut self, scope: Scope, pause: Duration) {
        if self.search.take().is_some() {
            self.act(Action::StopSearch);
        }
        let has_paths = match scope {
            Scope::Any => !self.paths.is_empty(),
            Scope::BetterThan(rank) => self.paths.iter().any(|known| *known < rank),
        };
        if has_paths {
            self.act(Action::Search(scope, pause));
            self.search = Some(scope);
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

    /// How long to wait before connections are made that may not last either.
    pub(super) fn pause(&self) -> Duration {
        if self.short_lives < SHORT_LIVES {
            Duration::ZERO
        } else {
            SHORT_LIFE * self.short_lives.min(LONGEST_PAUSE)
        }
    }

    /// When ssh may start that is wanted in `after`.
    pub(super) fn ssh_at(&self, after: Duration) -> Instant {
        self.now + after.max(self.pace.wait(self.now))
    }

    /// When ssh may start that the user asks for.
    pub(super) fn asked_ssh_at(&self) -> Instant {
        self.asked_ssh
            .map_or(self.now, |last| self.now.max(last + ASKED_APART))
    }

    /// ssh starts because the user asked for it.
    pub(super) fn asked_ssh(&mut self) {
        self.asked_ssh = Some(self.now);
    }

    /// Whether Enter is a new wish, and not the same key still held down.
    pub(super) fn is_new_wish(&mut self) -> bool {
        let last = self.asked.replace(self.now);
        last.is_none_or(|last| self.now.saturating_duration_since(last) >= HELD_KEY)
    }

    /// Tells the user, unless that was the last thing told.
    pub(super) fn note(&mut self, words: String) {
        if self.noted.as_ref() != Some(&words) {
            self.act(Action::Note(words.clone()));
            self.noted = Some(words);
        }
    }
}
