//! How much memory the send buffers of a session may hold, and those of all sessions together.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

/// What every stream may hold whatever the others do, in bytes.
pub const EACH: u64 = 16 * 1024;

/// What a session's streams may hold above [`EACH`], in bytes.
pub const SESSION: u64 = 64 * 1024 * 1024;

/// What all sessions of an agent may hold above [`EACH`] a stream, in bytes.
pub const AGENT: u64 = 256 * 1024 * 1024;

/// Bytes that are shared by many and held by some.
#[derive(Debug)]
pub struct BufferBudget {
    /// Below nothing when several took at once.
    free: AtomicI64,
    parent: Option<Arc<Self>>,
}

impl BufferBudget {
    /// A pool of `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicI64::new(bytes.cast_signed()),
            parent: None,
        })
    }

    /// A pool of `bytes` that are taken from `parent` too.
    #[must_use]
    pub fn within(parent: Arc<Self>, bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicI64::new(bytes.cast_signed()),
            parent: Some(parent),
        })
    }

    /// How many bytes a stream that holds `held` may take in now. One that holds much gets nothing while little is free,
    /// so that no few take it all.
    #[must_use]
    pub fn room(&self, held: u64) -> u64 {
        let free = self.free();
        if held < EACH {
            return EACH - held + free;
        }
        free.saturating_sub(held - EACH)
    }

    fn free(&self) -> u64 {
        let above = self.parent.as_ref().map_or(u64::MAX, |parent| parent.free());
        let own = u64::try_from(self.free.load(Ordering::Relaxed)).unwrap_or(0);
        own.min(above)
    }

    /// A stream that held `before` bytes now holds `after`. More than [`BufferBudget::room`] said may be taken when several
    /// streams take at once: by as much as one read each.
    pub fn held(&self, before: u64, after: u64) {
        let (before, after) = (before.saturating_sub(EACH), after.saturating_sub(EACH));
        if after > before {
            self.take(after - before);
        } else if before > after {
            self.give_back(before - after);
        }
    }

    fn take(&self, bytes: u64) {
        self.free.fetch_sub(bytes.cast_signed(), Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.take(bytes);
        }
    }

    fn give_back(&self, bytes: u64) {
        self.free.fetch_add(bytes.cast_signed(), Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.give_back(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_gets_its_least_and_no_few_get_all() {
        let all = BufferBudget::new(1000);
        let session = BufferBudget::within(all.clone(), 1000);
        assert_eq!(session.room(0), EACH + 1000);
        assert_eq!(session.room(EACH + 400), 600);
        session.held(0, EACH + 600);
        assert_eq!(session.room(EACH + 600), 0, "more than is left for the others");
        assert_eq!(session.room(0), EACH + 400);
        session.held(0, EACH + 500);
        assert_eq!(session.room(0), EACH, "the least is always there");
        assert_eq!(all.room(0), EACH);
        session.held(EACH + 500, 0);
        session.held(EACH + 600, 10);
        assert_eq!(all.room(0), EACH + 1000);
    }
}
