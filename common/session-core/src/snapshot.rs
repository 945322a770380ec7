//! A stream that is handed over from one process to its successor.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::{
    recv_state::RecvState,
    send_buffer::{self, SendBuffer},
    stream::{Reset, StreamCore},
    wire::StreamId,
};

/// The state of a stream without the bytes in its send buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct StreamSnapshot {
    /// The sending direction.
    pub send_buffer: send_buffer::Snapshot,
    /// Offset before which everything was delivered to the local socket. What was received beyond it is requested again.
    pub delivered: u64,
    /// The end was delivered as well.
    pub ended: bool,
    /// The stream was reset at this end with this code, which the peer may not have received.
    pub reset: Option<u32>,
}

impl StreamCore {
    /// What a successor process needs to continue: the state, and the bytes in the send buffer. None when the peer reset the
    /// stream.
    #[must_use]
    pub fn snapshot(&self) -> Option<(StreamSnapshot, Vec<Bytes>)> {
        let reset = match self.reset {
            Some(Reset::Local(code)) => Some(code),
            Some(Reset::Remote(_)) => return None,
            None => None,
        };
        let (send_buffer, held) = self.send_buffer.snapshot();
        let snapshot = StreamSnapshot {
            send_buffer,
            delivered: self.recv_state.delivered(),
            ended: self.recv_state.is_complete(),
            reset,
        };
        Some((snapshot, held.cloned().collect()))
    }

    /// At the agent: the stream of another process, continued after the attachment of `generation`. None when `held` does not
    /// fit the snapshot.
    #[must_use]
    pub fn restore(id: StreamId, generation: u64, snapshot: &StreamSnapshot, held: Bytes) -> Option<Self> {
        let send_buffer = SendBuffer::restore(&snapshot.send_buffer, held)?;
        let recv_state = RecvState::resumed(snapshot.delivered, snapshot.ended);
        let mut core = Self::resumed(id, generation, send_buffer, recv_state);
        core.reset = snapshot.reset.map(Reset::Local);
        Some(core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(core: &StreamCore) -> StreamCore {
        let (snapshot, held) = core.snapshot().unwrap();
        StreamCore::restore(core.id(), core.generation, &snapshot, held.concat().into()).unwrap()
    }

    #[test]
    fn a_successor_sends_what_was_not_acknowledged_and_requests_what_was_not_delivered() {
        let mut core = StreamCore::new(7, 3);
        core.write(Bytes::from_static(b"abcdef"));
        core.sent(3, 4);
        core.acknowledge(2, false).unwrap();
        core.accept(3, 0, Bytes::from_static(b"12345")).unwrap();
        core.deliver(2);
        core.finish();

        let mut next = through(&core);
        assert_eq!(next.fence(4).received, 2);
        assert!(!next.opened(3, 3).unwrap(), "of the previous attachment");
        assert!(next.opened(4, 3).unwrap());
        let mut batch = [Bytes::new()];
        assert_eq!(next.batch(4, &mut batch), 1);
        assert_eq!(batch[0], "def");
        next.sent(4, 3);
        assert!(next.take_end(4));
        let again = next.accept(4, 2, Bytes::from_static(b"345")).unwrap();
        assert_eq!(again.unwrap(), "345");
    }

    #[test]
    fn a_successor_repeats_a_local_reset_and_forgets_one_of_the_peer() {
        let mut core = StreamCore::new(7, 3);
        core.reset(2);
        assert_eq!(through(&core).entry().reset, Some(2));

        let mut core = StreamCore::new(8, 3);
        core.reset_by_peer(1);
        assert!(core.snapshot().is_none());
    }

    #[test]
    fn a_snapshot_without_its_bytes_is_refused() {
        let mut core = StreamCore::new(7, 3);
        core.write(Bytes::from_static(b"abcdef"));
        let (snapshot, _) = core.snapshot().unwrap();
        assert!(StreamCore::restore(7, 3, &snapshot, Bytes::from_static(b"abc")).is_none());
    }
}
