//! Deflate (RFC 1951), a block at a time: if blocks shared a dictionary, the length of one would reveal what is in another.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Fast enough for the paths that gain by compression; higher levels compress little better.
const LEVEL: u32 = 4;

thread_local! {
    /// Of each thread, made at first use: the state, and its output buffer.
    static DEFLATER: RefCell<Option<(Compress, Vec<u8>)>> = const { RefCell::new(None) };
    static INFLATER: RefCell<Option<(Decompress, Vec<u8>)>> = const { RefCell::new(None) };
}

/// Compresses `chunks` to one body. None if that takes more than `most` bytes.
pub(super) fn deflate(chunks: &[Bytes], most: usize) -> Option<Bytes> {
    DEFLATER.with_borrow_mut(|state| {
        let new = || (Compress::new(Compression::new(LEVEL), false), Vec::new());
        let (deflater, space) = state.get_or_insert_with(new);
        deflater.reset();
        space.resize(most, 0);
        let deflated =
            deflate_into(deflater, chunks, space).map(|length| Bytes::copy_from_slice(&space[..length]));
        if deflated.is_none() {
            // zlib-rs 0.6.8 would keep a buffer that is shorter by what did not fit, and panic some blocks later.
            *state = None;
        }
        deflated
    })
}

/// Bytes of `space` that were filled; none if it does not fit.
fn deflate_into(deflater: &mut Compress, chunks: &[Bytes], space: &mut [u8]) -> Option<usize> {
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
    matches!(ended, Ok(Status::StreamEnd))
        .then(|| place(deflater.total_out()))
        .flatten()
}

/// Decompresses a body. None if it is not exactly one, or decompresses to nothing or to more than `most` bytes.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::samples::{noise, text};

    #[test]
    fn a_block_that_does_not_compress_does_not_break_the_next_ones() {
        for round in 1..200 {
            let length = 4096 + 64 * round as usize;
            assert_eq!(deflate(&[noise(length, round)], length / 4 * 3), None);
        }
        let text = text(65_536);
        let small = deflate(std::slice::from_ref(&text), text.len() / 2).expect("it compresses well");
        assert_eq!(inflate(&small, text.len()), Some(text));
    }

    fn chunk() -> impl Strategy<Value = Bytes> {
        let length = || prop_oneof![1..300_usize, 1..20_000_usize];
        prop_oneof![
            (length(), any::<u64>()).prop_map(|(length, seed)| noise(length, seed)),
            length().prop_map(text),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_block_decompresses_to_what_was_compressed(
            blocks in prop::collection::vec((prop::collection::vec(chunk(), 1..5), 1..120_usize), 1..40),
        ) {
            for (chunks, percent) in blocks {
                let whole = chunks.concat();
                let most = whole.len() * percent / 100;
                if let Some(small) = deflate(&chunks, most) {
                    prop_assert!(small.len() <= most);
                    prop_assert_eq!(inflate(&small, whole.len()), Some(whole.into()));
                }
            }
        }
    }
}
