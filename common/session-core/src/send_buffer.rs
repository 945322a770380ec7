//! The sending direction of a stream: keeps every byte until the peer's socket took it, and sends it again on the next
//! attachment. The same buffer is the send window: while it is full, the local socket is not read.

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::violation::Violation;

/// The window of a new stream, in bytes.
pub const INITIAL_WINDOW: u64 = 256 * 1024;

/// The largest window of a stream, in bytes: more than 1 Gbit/s at a round-trip time of 100 ms.
pub const MAX_WINDOW: u64 = 16 * 1024 * 1024;

/// Bytes from `acked` to `end`. Those before `sent` were sent on the current attachment.
#[derive(Debug, Default)]
pub struct SendBuffer {
    /// The bytes `[acked, end)`.
    chunks: VecDeque<Bytes>,
    acked: u64,
    end: u64,
    /// Offset of the next byte to send on the current attachment.
    sent: u64,
    /// The highest `sent` so far: the peer cannot have received more.
    highest_sent: u64,
    /// `sent` as a position: index of the chunk, and offset in it.
    cursor: (usize, usize),
    window: u64,
    /// The local socket had data when there was no room.
    blocked: bool,
    /// The window does not grow before this offset is acknowledged: the last growth needs a round trip to show.
    grown_at: u64,
    finished: bool,
    /// The end was sent on the current attachment.
    end_sent: bool,
    end_acked: bool,
}

impl SendBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            window: INITIAL_WINDOW,
            ..Self::default()
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.end - self.acked
    }

    /// Bytes that fit.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.window.saturating_sub(self.held())
    }

    /// Offset before which everything was acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Bytes written in all.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Offset of the next byte to send.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Nothing more will be written.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The peer's socket took everything, with the end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end_acked
    }

    /// Appends bytes read from the local socket, without a copy. Not allowed after [`SendBuffer::finish`].
    pub fn push(&mut self, bytes: Bytes) {
        debug_assert!(!self.finished);
        self.end += bytes.len() as u64;
        if !bytes.is_empty() {
            self.chunks.push_back(bytes);
        }
    }

    /// Nothing more will be written.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Fills `batch` with the chunks to send next. Returns how many it filled.
    pub fn batch(&self, batch: &mut [Bytes]) -> usize {
        let (first, skip) = self.cursor;
        let mut taken = 0;
        for (place, chunk) in batch.iter_mut().zip(self.chunks.iter().skip(first)) {
            *place = if taken == 0 {
                chunk.slice(skip..)
            } else {
                chunk.clone()
            };
            taken += 1;
        }
        taken
    }

    /// The first `count` bytes of the last batch were sent.
    pub(crate) fn advance(&mut self, count: u64) {
        self.sent = (self.sent + count).min(self.end);
        self.highest_sent = self.highest_sent.max(self.sent);
        let (mut index, mut skip) = self.cursor;
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        while let Some(chunk) = self.chunks.get(index)
            && left >= chunk.len() - skip
        {
            left -= chunk.len() - skip;
            index += 1;
            skip = 0;
        }
        if index < self.chunks.len() {
            skip += left;
        }
        self.cursor = (index, skip);
    }

    /// All bytes were sent, and the end is to be sent now.
    #[must_use]
    pub fn wants_end(&self) -> bool {
        self.finished && !self.end_sent && self.sent == self.end
    }

    /// The end was sent.
    pub(crate) fn end_sent(&mut self) {
        self.end_sent = true;
    }

    /// A new attachment begins; the peer has received everything before `received`.
    ///
    /// # Errors
    /// When that was never sent, or is less than the peer acknowledged.
    pub(crate) fn rewind(&mut self, received: u64) -> Result<(), Violation> {
        if received < self.acked || received > self.highest_sent {
            return Err(Violation::Offset);
        }
        self.sent = received;
        self.end_sent = false;
        self.cursor = (0, 0);
        let mut left = usize::try_from(received - self.acked).unwrap_or(usize::MAX);
        while let Some(chunk) = self.chunks.get(self.cursor.0)
            && left >= chunk.len()
        {
            left -= chunk.len();
            self.cursor.0 += 1;
        }
        self.cursor.1 = left;
        Ok(())
    }

    /// The peer's socket took everything before `delivered`, and the end where `ended`. An acknowledgement older than the last
    /// has no effect. Returns how many bytes were released.
    ///
    /// # Errors
    /// When that was never sent.
    pub fn acknowledge(&mut self, delivered: u64, ended: bool) -> Result<u64, Violation> {
        let beyond = delivered > self.highest_sent;
        if beyond || (ended && (!self.finished || delivered != self.end)) {
            return Err(Violation::Offset);
        }
        self.end_acked |= ended;
        if delivered <= self.acked {
            return Ok(0);
        }
        let freed = delivered - self.acked;
        // On a new attachment the peer may have received more than was sent there so far. That need not be sent.
        if self.sent < delivered {
            self.advance(delivered - self.sent);
        }
        let mut left = freed;
        while let Some(chunk) = self.chunks.front_mut() {
            let length = chunk.len() as u64;
            if left < length {
                let part = usize::try_from(left).unwrap_or(chunk.len());
                *chunk = chunk.split_off(part);
                if self.cursor.0 == 0 {
                    self.cursor.1 -= part;
                }
                break;
            }
            left -= length;
            self.chunks.pop_front();
            self.cursor.0 -= 1;
        }
        self.acked = delivered;
        self.grow_window();
        Ok(freed)
    }

    /// The local socket has data and there is no room: the window may be the bottleneck.
    pub fn window_blocked(&mut self) {
        self.blocked = true;
    }

    /// Doubles the window when it is the bottleneck: there was no room, everything in the buffer was sent, and the last growth
    /// had a round trip to show.
    fn grow_window(&mut self) {
        let limited = self.blocked && self.sent == self.end && self.acked >= self.grown_at;
        if limited && self.window < MAX_WINDOW {
            self.window = (self.window * 2).min(MAX_WINDOW);
            self.grown_at = self.end;
        }
        self.blocked = false;
    }

    /// Releases everything: the stream was reset. Returns how many bytes were released.
    pub(crate) fn clear(&mut self) -> u64 {
        let held = self.held();
        self.chunks.clear();
        self.cursor = (0, 0);
        self.acked = self.end;
        self.sent = self.end;
        self.highest_sent = self.end;
        held
    }

    /// What a successor process needs to continue: the state, and the bytes.
    pub(crate) fn snapshot(&self) -> (Snapshot, impl Iterator<Item = &Bytes>) {
        let snapshot = Snapshot {
            acked: self.acked,
            highest_sent: self.highest_sent,
            window: self.window,
            held: self.held(),
            finished: self.finished,
            end_acked: self.end_acked,
        };
        (snapshot, self.chunks.iter())
    }

    /// The buffer of another process, continued. None when `held` does not fit the snapshot.
    #[must_use]
    pub(crate) fn restore(snapshot: &Snapshot, held: Bytes) -> Option<Self> {
        let end = snapshot.acked.checked_add(snapshot.held)?;
        let fits = held.len() as u64 == snapshot.held
            && (snapshot.acked..=end).contains(&snapshot.highest_sent)
            && snapshot.window <= MAX_WINDOW;
        fits.then(|| Self {
            chunks: if held.is_empty() {
                VecDeque::new()
            } else {
                VecDeque::from([held])
            },
            acked: snapshot.acked,
            end,
            sent: snapshot.acked,
            highest_sent: snapshot.highest_sent,
            cursor: (0, 0),
            window: snapshot.window.max(INITIAL_WINDOW),
            grown_at: snapshot.acked,
            blocked: false,
            finished: snapshot.finished,
            end_sent: false,
            end_acked: snapshot.end_acked,
        })
    }
}

/// The state of a send buffer without its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Offset before which everything was acknowledged.
    pub acked: u64,
    /// The highest offset that was sent.
    pub highest_sent: u64,
    /// The window.
    pub window: u64,
    /// Bytes held.
    pub held: u64,
    /// Nothing more will be written.
    pub finished: bool,
    /// The end was acknowledged.
    pub end_acked: bool,
}

#[cfg(test)]
mod tests;
