//! Attachments: an ordered queue in each direction of each stream, and no other guarantee.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use jq_common::protocol::session::{Control, Entry, StreamId};

/// Items on the control stream.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Attach,
    Attached {
        boot: u64,
        fresh: bool,
        table: Vec<Entry>,
    },
    Control(Control),
}

/// Items on the QUIC stream of a logical stream.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Open { received: u64, with_header: bool },
    Data(Bytes),
    End,
}

/// One QUIC stream.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// The items in flight, by sender.
    pub(crate) pipes: [VecDeque<Item>; 2],
    /// Offset of the next byte that each end receives.
    pub(crate) at: [u64; 2],
    /// Whether each end uses it.
    pub(crate) used: [bool; 2],
}

/// One QUIC connection.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) generation: u64,
    /// The frames in flight on the control stream, by sender.
    pub(crate) control: [VecDeque<Frame>; 2],
    pub(crate) wires: BTreeMap<StreamId, Wire>,
    /// Whether the client has read the agent's table.
    pub(crate) established: bool,
    /// Whether the agent at its other end has ended.
    pub(crate) orphaned: bool,
}

impl Attachment {
    pub(crate) fn new(generation: u64) -> Self {
        Self {
            generation,
            control: [VecDeque::from([Frame::Attach]), VecDeque::new()],
            wires: BTreeMap::new(),
            established: false,
            orphaned: false,
        }
    }

    /// Nothing that the client sends arrives any more; what the agent sent may.
    pub(crate) fn orphan(&mut self) {
        self.orphaned = true;
        self.control[0].clear();
        for wire in self.wires.values_mut() {
            wire.pipes[0].clear();
            wire.used[1] = false;
        }
    }
}
