//! One start at a time for each name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Who is at work under which name. Knows no name that nobody works under.
#[derive(Default)]
pub(crate) struct KeyedMutex {
    names: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A place in a name's queue. Given up when dropped.
pub(crate) struct Turn<'a> {
    keyed_mutex: &'a KeyedMutex,
    name: &'a str,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl KeyedMutex {
    /// A place in the queue of `name`.
    pub(crate) fn queue<'a>(&'a self, name: &'a str) -> Turn<'a> {
        let lock = self.names().entry(name.to_owned()).or_default().clone();
        Turn {
            keyed_mutex: self,
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
    pub(crate) fn lock(&self) -> &tokio::sync::Mutex<()> {
        &self.lock
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut names = self.keyed_mutex.names();
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
        let keyed_mutex = KeyedMutex::default();
        let (first, second) = (keyed_mutex.queue("a"), keyed_mutex.queue("a"));
        let working = first.lock().try_lock().unwrap();
        assert!(second.lock().try_lock().is_err(), "one at a time");
        assert!(keyed_mutex.queue("b").lock().try_lock().is_ok(), "for each name");
        drop(working);
        drop(first);
        assert!(second.lock().try_lock().is_ok());
        let third = keyed_mutex.queue("a");
        let working = second.lock().try_lock().unwrap();
        assert!(third.lock().try_lock().is_err(), "the same queue as before");
        drop(working);
        drop((second, third));
        assert!(keyed_mutex.names().is_empty());
    }
}
