//! A mutex for each key.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Mutexes by name. A name is kept only while somebody holds or waits for its mutex.
#[derive(Default)]
pub(crate) struct KeyedMutex {
    names: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// The mutex of one name. Dropping the last one of a name forgets the name.
pub(crate) struct Entry<'a> {
    mutexes: &'a KeyedMutex,
    name: &'a str,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl KeyedMutex {
    /// The mutex of `name`.
    pub(crate) fn entry<'a>(&'a self, name: &'a str) -> Entry<'a> {
        let lock = self.names().entry(name.to_owned()).or_default().clone();
        Entry {
            mutexes: self,
            name,
            lock,
        }
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry<'_> {
    /// To be locked while the work is done.
    pub(crate) fn lock(&self) -> &tokio::sync::Mutex<()> {
        &self.lock
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut names = self.mutexes.names();
        // One reference is the map's and one is ours; others can be added only while the map is locked.
        if Arc::strong_count(&self.lock) == 2 {
            names.remove(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_forgotten_with_its_last_entry() {
        let mutexes = KeyedMutex::default();
        let (first, second) = (mutexes.entry("a"), mutexes.entry("a"));
        let working = first.lock().try_lock().unwrap();
        assert!(second.lock().try_lock().is_err(), "one at a time");
        assert!(mutexes.entry("b").lock().try_lock().is_ok(), "for each name");
        drop(working);
        drop(first);
        assert!(second.lock().try_lock().is_ok());
        let third = mutexes.entry("a");
        let working = second.lock().try_lock().unwrap();
        assert!(third.lock().try_lock().is_err(), "the same mutex as before");
        drop(working);
        drop((second, third));
        assert!(mutexes.names().is_empty());
    }
}
