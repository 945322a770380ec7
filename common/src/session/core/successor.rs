//! A stream that goes from one process to its successor.

use bytes::Bytes;

use super::{Reset, StreamCore};
use crate::{
    protocol::{session::StreamId, stream::ResetCode},
    session::{
        inbox::Inbox,
        outbox::{self, Outbox},
    },
};

/// A stream's state without the bytes that its outbox holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exported {
    /// The sending half.
    pub outbox: outbox::Exported,
    /// Everything before was taken by the local socket; what arrived beyond is asked for again.
    pub delivered: u64,
    /// The end was passed on as well.
    pub ended: bool,
    /// The stream was reset at this end, with this code, and the peer may not have heard of it.
    pub reset: Option<u32>,
}

impl StreamCore {
    /// What a successor of this process needs to go on: the state, and the bytes held. Nothing when the peer reset the
    /// stream.
    #[must_use]
    pub fn export(&self) -> Option<(Exported, Vec<Bytes>)> {
        let reset = match self.reset {
            Some(Reset::Here(code)) => Some(code as u32),
            Some(Reset::There(_)) => return None,
            None => None,
        };
        let (outbox, held) = self.outbox.export();
        let exported = Exported {
            outbox,
            delivered: self.inbox.delivered(),
            ended: self.inbox.is_complete(),
            reset,
        };
        Some((exported, held.cloned().collect()))
    }

    /// At the agent: a stream that goes on where another process left it, after the attachment of `generation`. None when
    /// `held` is not what was exported.
    #[must_use]
    pub fn import(id: StreamId, generation: u64, exported: &Exported, held: Bytes) -> Option<Self> {
        let outbox = Outbox::import(&exported.outbox, held)?;
        let inbox = Inbox::resumed(exported.delivered, exported.ended);
        let mut core = Self::resumed(id, generation, outbox, inbox);
        core.reset = exported
            .reset
            .map(|code| Reset::Here(ResetCode::from_wire(code.into())));
        Some(core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(core: &StreamCore) -> StreamCore {
        let (exported, held) = core.export().unwrap();
        StreamCore::import(core.id(), core.generation, &exported, held.concat().into()).unwrap()
    }

    #[test]
    fn a_successor_goes_on_with_what_was_acknowledged_and_asks_again_for_what_was_not_delivered() {
        let mut core = StreamCore::new(7, 3);
        core.write(Bytes::from_static(b"abcdef"));
        core.sent(3, 4);
        core.acknowledge(2, false).unwrap();
        core.accept(3, 0, Bytes::from_static(b"12345")).unwrap();
        core.deliver(2);
        core.finish();

        let mut next = through(&core);
        assert_eq!(next.fence(4).received, 2);
        assert!(!next.opened(3, 3).unwrap(), "of the attachment before");
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
    fn a_successor_tells_of_resets_that_were_not_heard_and_forgets_those_of_the_peer() {
        let mut core = StreamCore::new(7, 3);
        core.reset(ResetCode::Refused);
        assert_eq!(through(&core).entry().reset, Some(ResetCode::Refused as u32));

        let mut core = StreamCore::new(8, 3);
        core.reset_by_peer(ResetCode::ConnectionReset);
        assert!(core.export().is_none());
    }

    #[test]
    fn state_whose_bytes_are_missing_is_not_taken_over() {
        let mut core = StreamCore::new(7, 3);
        core.write(Bytes::from_static(b"abcdef"));
        let (exported, _) = core.export().unwrap();
        assert!(StreamCore::import(7, 3, &exported, Bytes::from_static(b"abc")).is_none());
    }
}
