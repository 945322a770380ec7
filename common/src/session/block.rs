//! How a stream's bytes travel on a leg: in blocks, each as it is or deflated (RFC 1951). No I/O.
//!
//! A block is a header of four bytes and what it tells: the highest bit that the block is deflated, the others, big endian,
//! how many bytes follow. A deflated block becomes at most [`LARGEST`] bytes and says nothing of those before it. Offsets
//! count what the blocks become.

mod decoder;
mod deflate;
mod encoder;

use std::cell::RefCell;

use bytes::{BufMut, Bytes, BytesMut};

pub use self::decoder::{BadBlock, BlockDecoder};
pub(super) use self::encoder::{BATCH, Began, BlockEncoder};

/// Most bytes of one block that this end sends, and most that a deflated one of the peer's may become.
pub const LARGEST: usize = 64 * 1024;

const HEADER: usize = 4;

const DEFLATED: u32 = 1 << 31;

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
