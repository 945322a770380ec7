//! The receiving half of a stream: accepts each byte once, in order, whatever an attachment sends again.

use bytes::Bytes;

use crate::violation::Violation;

/// How much arrived, and how much of it the local socket took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecvState {
    received: u64,
    delivered: u64,
    /// The end arrived; it stands at `received`.
    end_received: bool,
    end_delivered: bool,
}

impl RecvState {
    /// Everything before arrived.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Everything before was taken by the local socket.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The end was passed on to the local socket, after everything before it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end_delivered
    }

    /// Takes bytes that arrived. What of them is new, if anything.
    ///
    /// # Errors
    /// When bytes are missing before them, or the end came before them.
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
    /// When bytes are missing before it, or more came than it says.
    pub fn accept_end(&mut self, offset: u64) -> Result<(), Violation> {
        if offset != self.received {
            return Err(Violation::Offset);
        }
        self.end_received = true;
        Ok(())
    }

    /// The local socket took `count` more bytes of what was accepted.
    pub fn deliver(&mut self, count: u64) {
        self.delivered = (self.delivered + count).min(self.received);
    }

    /// The local socket was told the end. False when something is still to be delivered before.
    pub fn deliver_end(&mut self) -> bool {
        self.end_delivered |= self.end_received && self.delivered == self.received;
        self.end_delivered
    }

    /// The end has arrived and nothing is left to deliver before it.
    #[must_use]
    pub fn wants_end(&self) -> bool {
        self.end_received && !self.end_delivered && self.delivered == self.received
    }

    /// An inbox that goes on where another process left it: what was not delivered is asked for again.
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
    fn what_comes_again_is_dropped_and_what_is_missing_is_noticed() {
        let mut recv_state = RecvState::default();
        let bytes = Bytes::from_static(b"abcdef");
        assert_eq!(recv_state.accept(0, bytes.slice(..4)).unwrap().unwrap(), "abcd");
        assert_eq!(recv_state.accept(2, bytes.slice(2..)).unwrap().unwrap(), "ef");
        assert_eq!(recv_state.accept(0, bytes.clone()).unwrap(), None);
        assert_eq!(recv_state.accept(7, bytes.clone()), Err(Violation::Offset));
        assert_eq!(recv_state.accept(u64::MAX, bytes), Err(Violation::Offset));
    }

    #[test]
    fn the_end_is_passed_on_only_after_everything_before_it() {
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
