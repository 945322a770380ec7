//! The receiving direction of a stream: accepts each byte once and in order, also when an attachment sends it again.

use bytes::Bytes;

use crate::violation::Violation;

/// How much was received, and how much of that was delivered to the local socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecvState {
    received: u64,
    delivered: u64,
    /// The end was received; its offset is `received`.
    end_received: bool,
    end_delivered: bool,
}

impl RecvState {
    /// Offset before which everything was received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Offset before which everything was delivered to the local socket.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The end was delivered to the local socket, after everything before it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end_delivered
    }

    /// Bytes arrived. Returns those that are new, if any.
    ///
    /// # Errors
    /// When there is a gap before them, or they lie behind the end.
    pub fn accept(&mut self, offset: u64, mut bytes: Bytes) -> Result<Option<Bytes>, Violation> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(Violation::Offset)?;
        if offset > self.received || (self.end_received && end > self.received) {
            return Err(Violation::Offset);
        }
        if end <= self.received {
            return Ok(None);
        }
        let known = usize::try_from(self.received - offset).map_err(|_| Violation::Offset)?;
        let new = bytes.split_off(known);
        self.received = end;
        Ok(Some(new))
    }

    /// The end arrived at `offset`.
    ///
    /// # Errors
    /// When there is a gap before it, or bytes behind it were received.
    pub fn accept_end(&mut self, offset: u64) -> Result<(), Violation> {
        if offset != self.received {
            return Err(Violation::Offset);
        }
        self.end_received = true;
        Ok(())
    }

    /// `count` more bytes were written to the local socket.
    pub fn deliver(&mut self, count: u64) {
        self.delivered = (self.delivered + count).min(self.received);
    }

    /// The end is being passed to the local socket. False when bytes are to be delivered first.
    pub fn deliver_end(&mut self) -> bool {
        self.end_delivered |= self.end_received && self.delivered == self.received;
        self.end_delivered
    }

    /// The end was received and is the next thing to deliver.
    #[must_use]
    pub fn wants_end(&self) -> bool {
        self.end_received && !self.end_delivered && self.delivered == self.received
    }

    /// The state of another process, continued: what was received and not delivered is requested again.
    #[must_use]
    pub(crate) fn resumed(delivered: u64, ended: bool) -> Self {
        Self {
            received: delivered,
            delivered,
            end_received: ended,
            end_delivered: ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_bytes_are_dropped_and_a_gap_is_an_error() {
        let mut recv_state = RecvState::default();
        let bytes = Bytes::from_static(b"abcdef");
        assert_eq!(recv_state.accept(0, bytes.slice(..4)).unwrap().unwrap(), "abcd");
        assert_eq!(recv_state.accept(2, bytes.slice(2..)).unwrap().unwrap(), "ef");
        assert_eq!(recv_state.accept(0, bytes.clone()).unwrap(), None);
        assert_eq!(recv_state.accept(7, bytes.clone()), Err(Violation::Offset));
        assert_eq!(recv_state.accept(u64::MAX, bytes), Err(Violation::Offset));
    }

    #[test]
    fn the_end_is_delivered_only_after_everything_before_it() {
        let mut recv_state = RecvState::default();
        recv_state.accept(0, Bytes::from_static(b"ab")).unwrap();
        assert_eq!(recv_state.accept_end(3), Err(Violation::Offset));
        assert_eq!(recv_state.accept_end(1), Err(Violation::Offset));
        recv_state.accept_end(2).unwrap();
        assert!(!recv_state.deliver_end());
        recv_state.deliver(2);
        assert!(recv_state.deliver_end());
        assert_eq!(
            recv_state.accept(2, Bytes::from_static(b"c")),
            Err(Violation::Offset)
        );
        recv_state.accept_end(2).unwrap();
    }
}
