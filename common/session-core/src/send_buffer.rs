//! The sending half of a stream: everything that the peer's socket has not yet taken is kept, and sent again on the next
//! attachment. The same buffer is the send window: when it is full, nothing more is read from the local socket.

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::violation::Violation;

/// What a stream may hold before it has shown that it needs more, in bytes.
pub const FIRST_WINDOW: u64 = 256 * 1024;

/// The most one stream may hold, in bytes: 1 Gbit/s at 100 ms, and some.
pub const LARGEST_WINDOW: u64 = 16 * 1024 * 1024;

/// Bytes from `acked` to `end`, of which those before `sent` went out on the current attachment.
#[derive(Debug, Default)]
pub struct SendBuffer {
    /// `[acked, end)`.
    chunks: VecDeque<Bytes>,
    acked: u64,
    end: u64,
    /// Next offset to be sent on the current attachment.
    sent: u64,
    /// The highest `sent` there ever was: nobody can have delivered more.
    reached: u64,
    /// Where `sent` stands: the chunk's place, and how much of it went out.
    at: (usize, usize),
    window: u64,
    /// There was no room when there was something to take.
    wanted_more: bool,
    /// No growth before this was acknowledged: the last one has to show first.
    grown_at: u64,
    finished: bool,
    /// The end was sent on the current attachment.
    end_sent: bool,
    end_acked: bool,
}

impl SendBuffer {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            window: FIRST_WINDOW,
            ..Self::default()
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.end - self.acked
    }

    /// How many bytes more it takes.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.window.saturating_sub(self.held())
    }

    /// Everything up to here was acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// How much was written in all.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Next offset to be sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// No more will be written.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The peer has it all, with its end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end_acked
    }

    /// Takes what the local socket gave. Its memory is shared, not copied. Nothing may follow [`SendBuffer::finish`].
    pub fn push(&mut self, bytes: Bytes) {
        debug_assert!(!self.finished);
        self.end += bytes.len() as u64;
        if !bytes.is_empty() {
            self.chunks.push_back(bytes);
        }
    }

    /// No more follows.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Fills `batch` with what is to be sent next and returns how many places it took.
    pub fn batch(&self, batch: &mut [Bytes]) -> usize {
        let (first, skip) = self.at;
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

    /// `count` bytes of the last batch went out.
    pub(crate) fn advance(&mut self, count: u64) {
        self.sent = (self.sent + count).min(self.end);
        self.reached = self.reached.max(self.sent);
        let (mut index, mut skip) = self.at;
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
        self.at = (index, skip);
    }

    /// All was sent, and its end is to be sent now.
    #[must_use]
    pub fn wants_end(&self) -> bool {
        self.finished && !self.end_sent && self.sent == self.end
    }

    /// The end went out.
    pub(crate) fn end_sent(&mut self) {
        self.end_sent = true;
    }

    /// A new attachment begins, on which the peer has everything before `received`.
    ///
    /// # Errors
    /// When the peer cannot have that, or has lost what it acknowledged.
    pub(crate) fn rewind(&mut self, received: u64) -> Result<(), Violation> {
        if received < self.acked || received > self.reached {
            return Err(Violation::Offset);
        }
        self.sent = received;
        self.end_sent = false;
        self.at = (0, 0);
        let mut left = usize::try_from(received - self.acked).unwrap_or(usize::MAX);
        while let Some(chunk) = self.chunks.get(self.at.0)
            && left >= chunk.len()
        {
            left -= chunk.len();
            self.at.0 += 1;
        }
        self.at.1 = left;
        Ok(())
    }

    /// The peer's socket took everything before `delivered`; `ended`: and was told the end. What is older than what is
    /// known changes nothing. Returns how many bytes were let go.
    ///
    /// # Errors
    /// When that was never sent.
    pub fn acknowledge(&mut self, delivered: u64, ended: bool) -> Result<u64, Violation> {
        let beyond = delivered > self.reached;
        if beyond || (ended && (!self.finished || delivered != self.end)) {
            return Err(Violation::Offset);
        }
        self.end_acked |= ended;
        if delivered <= self.acked {
            return Ok(0);
        }
        let freed = delivered - self.acked;
        // On a new attachment the peer may have more than was sent there so far: there is no need to send that.
        if self.sent < delivered {
            self.advance(delivered - self.sent);
        }
        let mut left = freed;
        while let Some(chunk) = self.chunks.front_mut() {
            let length = chunk.len() as u64;
            if left < length {
                let part = usize::try_from(left).unwrap_or(chunk.len());
                *chunk = chunk.split_off(part);
                if self.at.0 == 0 {
                    self.at.1 -= part;
                }
                break;
            }
            left -= length;
            self.chunks.pop_front();
            self.at.0 -= 1;
        }
        self.acked = delivered;
        self.widen();
        Ok(freed)
    }

    /// The local socket has more, and there is no room for it: the window may be what holds the stream up.
    pub fn is_wanted_more(&mut self) {
        self.wanted_more = true;
    }

    /// Doubles the window of a stream that it holds up: there was no room, all that fitted was sent, and the last growth
    /// has had its round trip.
    fn widen(&mut self) {
        let limited = self.wanted_more && self.sent == self.end && self.acked >= self.grown_at;
        if limited && self.window < LARGEST_WINDOW {
            self.window = (self.window * 2).min(LARGEST_WINDOW);
            self.grown_at = self.end;
        }
        self.wanted_more = false;
    }

    /// Lets everything go: the stream was reset. Returns how many bytes that were.
    pub(crate) fn clear(&mut self) -> u64 {
        let held = self.held();
        self.chunks.clear();
        self.at = (0, 0);
        self.acked = self.end;
        self.sent = self.end;
        self.reached = self.end;
        held
    }

    /// What a successor of this process needs to go on: the state, and the bytes held.
    pub(crate) fn snapshot(&self) -> (Snapshot, impl Iterator<Item = &Bytes>) {
        let snapshot = Snapshot {
            acked: self.acked,
            reached: self.reached,
            window: self.window,
            held: self.held(),
            finished: self.finished,
            end_acked: self.end_acked,
        };
        (snapshot, self.chunks.iter())
    }

    /// An send buffer that goes on where another process left it. None when `held` is not what was exported.
    #[must_use]
    pub(crate) fn restore(snapshot: &Snapshot, held: Bytes) -> Option<Self> {
        let end = snapshot.acked.checked_add(snapshot.held)?;
        let fits = held.len() as u64 == snapshot.held
            && (snapshot.acked..=end).contains(&snapshot.reached)
            && snapshot.window <= LARGEST_WINDOW;
        fits.then(|| Self {
            chunks: if held.is_empty() {
                VecDeque::new()
            } else {
                VecDeque::from([held])
            },
            acked: snapshot.acked,
            end,
            sent: snapshot.acked,
            reached: snapshot.reached,
            at: (0, 0),
            window: snapshot.window.max(FIRST_WINDOW),
            grown_at: snapshot.acked,
            wanted_more: false,
            finished: snapshot.finished,
            end_sent: false,
            end_acked: snapshot.end_acked,
        })
    }
}

/// An send buffer's state without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Snapshot {
    /// Everything before was acknowledged.
    pub acked: u64,
    /// The highest offset that was ever sent.
    pub(crate) reached: u64,
    /// The window.
    pub window: u64,
    /// How many bytes are held.
    pub held: u64,
    /// No more follows.
    pub(crate) finished: bool,
    /// The end was acknowledged.
    pub(crate) end_acked: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(send_buffer: &mut SendBuffer, most: u64) -> Vec<u8> {
        let mut batch = vec![Bytes::new(); 4];
        let taken = send_buffer.batch(&mut batch);
        let all: Vec<u8> = batch[..taken].concat();
        let count = most.min(all.len() as u64);
        send_buffer.advance(count);
        all[..count as usize].to_vec()
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_from_where_the_peer_has_it() {
        let mut send_buffer = SendBuffer::new();
        for part in ["one", "two", "three"] {
            send_buffer.push(Bytes::from_static(part.as_bytes()));
        }
        assert_eq!(drain(&mut send_buffer, 5), b"onetw");
        assert_eq!(send_buffer.acknowledge(4, false).unwrap(), 4);
        assert_eq!(drain(&mut send_buffer, 100), b"othree");
        send_buffer.rewind(4).unwrap();
        assert_eq!(drain(&mut send_buffer, 100), b"wothree");
        send_buffer.rewind(7).unwrap();
        assert_eq!(drain(&mut send_buffer, 100), b"hree");
        assert_eq!(send_buffer.acknowledge(11, false).unwrap(), 7);
        assert_eq!(send_buffer.held(), 0);
    }

    #[test]
    fn a_peer_that_claims_what_it_cannot_have_is_found_out() {
        let mut send_buffer = SendBuffer::new();
        send_buffer.push(Bytes::from_static(b"abcd"));
        send_buffer.advance(2);
        assert!(send_buffer.acknowledge(3, false).is_err());
        assert!(send_buffer.rewind(3).is_err());
        assert!(send_buffer.acknowledge(2, true).is_err(), "no end was sent");
        send_buffer.acknowledge(2, false).unwrap();
        assert!(send_buffer.rewind(1).is_err(), "it has lost what it acknowledged");
        assert_eq!(
            send_buffer.acknowledge(1, false).unwrap(),
            0,
            "an old acknowledgement"
        );
    }

    #[test]
    fn the_window_grows_only_for_a_stream_that_it_holds_up() {
        let chunk = || Bytes::from(vec![0; FIRST_WINDOW as usize]);
        let mut send_buffer = SendBuffer::new();
        send_buffer.push(chunk());
        send_buffer.advance(FIRST_WINDOW);
        send_buffer.acknowledge(FIRST_WINDOW / 2, false).unwrap();
        assert_eq!(send_buffer.window, FIRST_WINDOW, "nothing more was there to take");
        send_buffer.is_wanted_more();
        send_buffer.acknowledge(FIRST_WINDOW, false).unwrap();
        assert_eq!(send_buffer.window, 2 * FIRST_WINDOW);
        for (acked, window) in [
            (FIRST_WINDOW + 1, 4),
            (FIRST_WINDOW + 2, 4),
            (3 * FIRST_WINDOW + 1, 8),
        ] {
            while send_buffer.room() >= FIRST_WINDOW {
                send_buffer.push(chunk());
                send_buffer.advance(FIRST_WINDOW);
            }
            send_buffer.is_wanted_more();
            send_buffer.acknowledge(acked, false).unwrap();
            assert_eq!(send_buffer.window, window * FIRST_WINDOW, "at {acked}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_pieces_arrive_in_order_through_any_rewinds(
            parts in proptest::collection::vec(proptest::collection::vec(0u8.., 0..9), 0..20),
            steps in proptest::collection::vec((0u64..12, 0u8..4), 0..80),
        ) {
            let mut send_buffer = SendBuffer::new();
            let all: Vec<u8> = parts.concat();
            for part in parts {
                send_buffer.push(Bytes::from(part));
            }
            let mut peer: Vec<u8> = Vec::new();
            for (count, what) in steps {
                match what {
                    0 | 1 => {
                        let from = send_buffer.sent() as usize;
                        let sent = drain(&mut send_buffer, count);
                        proptest::prop_assert_eq!(&all[from..from + sent.len()], &sent[..]);
                        if from == peer.len() { peer.extend(sent); }
                    }
                    2 => send_buffer.rewind(peer.len() as u64).unwrap(),
                    _ => {
                        let delivered = (send_buffer.acked() + count).min(peer.len() as u64);
                        send_buffer.acknowledge(delivered, false).unwrap();
                    }
                }
                proptest::prop_assert!(send_buffer.acked() <= send_buffer.sent() && send_buffer.sent() <= send_buffer.end());
                let (snapshot, chunks) = send_buffer.snapshot();
                let held = Bytes::from(chunks.flatten().copied().collect::<Vec<_>>());
                let copy = SendBuffer::restore(&snapshot, held).unwrap();
                proptest::prop_assert_eq!(copy.end(), send_buffer.end());
            }
        }
    }
}
