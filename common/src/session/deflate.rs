//! Deflate (RFC 1951), a block at a time: what one gives away of another by its length would be an observer's gain.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Quick enough for the links that gain by it, and nearly as small as it gets.
const LEVEL: u32 = 4;

thread_local! {
    /// Each thread's, made when it is first needed, and what it writes into.
    static DEFLATER: RefCell<Option<(Compress, Vec<u8>)>> = const { RefCell::new(None) };
    static INFLATER: RefCell<Option<(Decompress, Vec<u8>)>> = const { RefCell::new(None) };
}

/// `chunks` as one block; none if that takes more than `most` bytes.
pub(super) fn deflate(chunks: &[Bytes], most: usize) -> Option<Bytes> {
    DEFLATER.with_borrow_mut(|state| {
        let new = || (Compress::new(Compression::new(LEVEL), false), Vec::new());
        let (deflater, space) = state.get_or_insert_with(new);
        deflater.reset();
        space.resize(most, 0);
        for chunk in chunks {
            let (before, written) = (deflater.total_in(), place(deflater.total_out())?);
            deflater
                .compress(chunk, space.get_mut(written..)?, FlushCompress::None)
                .ok()?;
            if deflater.total_in() - before < chunk.len() as u64 {
                return None;
            }
        }
        let written = place(deflater.total_out())?;
        let ended = deflater.compress(&[], space.get_mut(written..)?, FlushCompress::Finish);
        let all = place(deflater.total_out())?;
        matches!(ended, Ok(Status::StreamEnd)).then(|| Bytes::copy_from_slice(&space[..all]))
    })
}

/// What `block` becomes; none if it is not one whole block, or becomes nothing or more than `most` bytes.
pub(super) fn inflate(block: &[u8], most: usize) -> Option<Bytes> {
    INFLATER.with_borrow_mut(|state| {
        let (inflater, space) = state.get_or_insert_with(|| (Decompress::new(false), Vec::new()));
        inflater.reset(false);
        space.resize(most, 0);
        let ended = inflater.decompress(block, space, FlushDecompress::Finish);
        let is_whole = matches!(ended, Ok(Status::StreamEnd)) && inflater.total_in() == block.len() as u64;
        let length = place(inflater.total_out())?;
        (is_whole && length > 0).then(|| Bytes::copy_from_slice(&space[..length]))
    })
}

fn place(count: u64) -> Option<usize> {
    usize::try_from(count).ok()
}
