//! The true history of a stream. The model compares both ends with it.

use std::sync::LazyLock;

use bytes::Bytes;
use jq_common::protocol::session::StreamId;

/// Maximum length of a write in bytes: one read of a socket.
pub(crate) const LONGEST: usize = 64 * 1024;

/// Period of a direction's content in bytes. A prime, so that a usual error is not a multiple of it.
const PERIOD: u64 = 65_521;

static CONTENT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 1u32;
    let period: Vec<u8> = (0..PERIOD)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    Bytes::from([&period[..], &period[..], &period[..]].concat())
});

/// The bytes that `from` sends on `stream` from `offset`.
pub(crate) fn content(stream: StreamId, from: usize, offset: u64, length: usize) -> Bytes {
    assert!(length <= LONGEST);
    let start = ((stream * 7919 + from as u64 * 4801 + offset) % PERIOD) as usize;
    CONTENT.slice(start..start + length)
}

/// Whether these are the bytes that `from` sends on `stream` from `offset`.
pub(crate) fn is_content(bytes: &[u8], stream: StreamId, from: usize, offset: u64) -> bool {
    bytes
        .chunks(LONGEST)
        .zip((offset..).step_by(LONGEST))
        .all(|(part, offset)| part == content(stream, from, offset, part.len()))
}

/// How a stream ended at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Complete,
    Reset,
}

/// A stream as the program and socket at one end saw it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    pub(crate) written: u64,
    pub(crate) finished: bool,
    /// The highest offset that was sent.
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) ended: bool,
    pub(crate) outcome: Option<Outcome>,
    /// Whether an event happened at this end that may reset the stream.
    pub(crate) disturbed: bool,
}
