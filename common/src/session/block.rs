//! The encoding of a stream's bytes on a leg: blocks, each plain or compressed (deflate, RFC 1951). No I/O.
//!
//! A block is a header of four bytes (big endian) and a body. The highest bit of the header says that the body is compressed,
//! the others are its length in bytes. A compressed block decompresses to at most [`LARGEST`] bytes and refers to no earlier
//! block. Stream offsets count decompressed bytes.

mod decoder;
mod deflate;
mod encoder;
mod format;

pub(super) use self::encoder::{BATCH, Began, BlockEncoder};
pub use self::{
    decoder::{BadBlock, BlockDecoder},
    format::{LARGEST, deflated, plain},
};
