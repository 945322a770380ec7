//! How much memory the send buffers of a session may take, and those of all sessions of an agent together.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

/// Bytes that every stream may take, however much the others hold.
pub const EACH: u64 = 16 * 1024;

/// Bytes that the streams of a session may take beyond [`EACH`].
pub const SESSION: u64 = 64 * 1024 * 1024;

/// Bytes that the streams of all sessions of an agent may take beyond [`EACH`].
pub const AGENT: u64 = 256 * 1024 * 1024;

/// A memory budget shared by many send buffers. Lock-free.
#[derive(Debug)]
pub struct BufferBudget {
    /// Negative when several streams took memory at the same time.
    free: AtomicI64,
    parent: Option<Arc<Self>>,
}

impl BufferBudget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicI64::new(bytes.cast_signed()),
            parent: None,
        })
    }

    /// A budget of `bytes` that are taken from `parent` as well.
    #[must_use]
    pub fn within(parent: Arc<Self>, bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicI64::new(bytes.cast_signed()),
            parent: Some(parent),
        })
    }

    /// Bytes that a stream that holds `held` may take now. A stream that holds more than is free gets nothing, so that a few
    /// streams do not take everything.
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

    /// A stream that held `before` bytes now holds `after`. When several streams take memory at the same time, each may exceed
    /// [`BufferBudget::room`] by one read.
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
    fn every_stream_gets_its_minimum_and_a_few_do_not_take_everything() {
        let all = BufferBudget::new(1000);
        let session = BufferBudget::within(all.clone(), 1000);
        assert_eq!(session.room(0), EACH + 1000);
        assert_eq!(session.room(EACH + 400), 600);
        session.held(0, EACH + 600);
        assert_eq!(session.room(EACH + 600), 0, "it holds more than is free");
        assert_eq!(session.room(0), EACH + 400);
        session.held(0, EACH + 500);
        assert_eq!(session.room(0), EACH, "the minimum is always free");
        assert_eq!(all.room(0), EACH);
        session.held(EACH + 500, 0);
        session.held(EACH + 600, 10);
        assert_eq!(all.room(0), EACH + 1000);
    }
}
