//! One start at a time for each name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Who is at work under which name. Knows no name that nobody works under.
#[derive(Default)]
pub(super) struct Turns {
    names: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A place in a name's queue. Given up when dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    name: &'a str,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl Turns {
    /// A place in the queue of `name`.
    pub(super) fn queue<'a>(&'a self, name: &'a str) -> Turn<'a> {
        let lock = self.names().entry(name.to_owned()).or_default().clone();
        Turn {
            turns: self,
            name,
            lock,
        }
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Held while at work.
    pub(super) fn lock(&self) -> &tokio::sync::Mutex<()> {
        &self.lock
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut names = self.turns.names();
        // The map's and ours; more come only while the map is locked.
        if Arc::strong_count(&self.lock) == 2 {
            names.remove(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_forgotten_when_the_last_of_its_queue_has_gone() {
        let turns = Turns::default();
        let (first, second) = (turns.queue("a"), turns.queue("a"));
        let working = first.lock().try_lock().unwrap();
        assert!(second.lock().try_lock().is_err(), "one at a time");
        assert!(turns.queue("b").lock().try_lock().is_ok(), "for each name");
        drop(working);
        drop(first);
        assert!(second.lock().try_lock().is_ok());
        let third = turns.queue("a");
        let working = second.lock().try_lock().unwrap();
        assert!(third.lock().try_lock().is_err(), "the same queue as before");
        drop(working);
        drop((second, third));
        assert!(turns.names().is_empty());
    }
}
