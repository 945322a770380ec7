//! How a stream's bytes travel on a leg: in blocks, each as it is or deflated (RFC 1951). No I/O.
//!
//! A block is a header of four bytes and what it tells: the highest bit that the block is deflated, the others, big endian,
//! how many bytes follow. A deflated block becomes at most [`LARGEST`] bytes and says nothing of those before it. Offsets
//! count what the blocks become.

mod decoder;
mod deflate;
mod encoder;
mod format;

pub(super) use self::encoder::{BATCH, Began, BlockEncoder};
pub use self::{
    decoder::{BadBlock, BlockDecoder},
    format::{LARGEST, deflated, plain},
};
