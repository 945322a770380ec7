//! The header of a block.

use std::cell::RefCell;

use bytes::{BufMut, Bytes, BytesMut};

/// Most bytes of a block that this end compresses, and most that a compressed block of the peer's may decompress to.
pub const LARGEST: usize = 64 * 1024;

/// Bytes of a header.
pub(super) const HEADER: usize = 4;

/// The bit of a header that says that the body is compressed.
pub(super) const DEFLATED: u32 = 1 << 31;

/// Bytes allocated for headers at once: each header is a slice of that.
const HEADERS: usize = 4096;

thread_local! {
    static SPACE: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// The header of a plain block of `length` bytes.
#[must_use]
pub fn plain(length: u32) -> Bytes {
    header(length & !DEFLATED)
}

/// The header of a compressed block whose body has `length` bytes.
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
