//! The header of a block.

use std::cell::RefCell;

use bytes::{BufMut, Bytes, BytesMut};

/// Most bytes of one block that this end sends, and most that a deflated one of the peer's may become.
pub const LARGEST: usize = 64 * 1024;

pub(super) const HEADER: usize = 4;

pub(super) const DEFLATED: u32 = 1 << 31;

/// How much memory is taken for headers at once, in bytes: they are shared slices of it.
const HEADERS: usize = 4096;

thread_local! {
    static SPACE: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// The header of a block of `length` bytes that follow as they are.
#[must_use]
pub fn plain(length: u32) -> Bytes {
    header(length & !DEFLATED)
}

/// The header of a block of `length` deflated bytes.
#[must_use]
pub fn deflated(length: u32) -> Bytes {
    header(length | DEFLATED)
}

fn header(word: u32) -> Bytes {
    SPACE.with_borrow_mut(|space| {
        if space.capacity() < HEADER {
            space.reserve(HEADERS);
        }
        space.put_u32(word);
        space.split().freeze()
    })
}
