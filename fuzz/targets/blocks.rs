//! Blocks: arbitrary bytes in arbitrary pieces.
#![no_main]

use std::collections::VecDeque;

use arbitrary::Arbitrary;
use bytes::Bytes;
use jq_common::session::block::{BadBlock, BlockDecoder, LARGEST};
use jq_fuzz::measured;
use libfuzzer_sys::fuzz_target;

/// Memory besides a block, in bytes: the state of the inflater, and its output buffer.
const BASE: usize = 4 * LARGEST;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    pieces: Vec<u8>,
    bytes: &'a [u8],
}

type Read = (usize, Option<BadBlock>, bool);

/// Decodes `pieces`. Returns the number of decoded bytes, and how decoding ended. Only one block is in memory at a time.
fn read(pieces: VecDeque<Bytes>) -> Read {
    let mut decoder = BlockDecoder::default();
    let mut count = 0;
    for piece in pieces {
        let mut arrived = VecDeque::from([piece]);
        loop {
            match decoder.next(&mut arrived) {
                Ok(Some(bytes)) => {
                    assert!(!bytes.is_empty());
                    count += bytes.len();
                }
                Ok(None) => break,
                Err(bad) => {
                    assert_eq!(decoder.next(&mut arrived), Err(bad), "an error must be permanent");
                    return (count, Some(bad), false);
                }
            }
        }
    }
    (count, None, decoder.is_between_blocks())
}

fn cut(bytes: &[u8], sizes: &[u8]) -> VecDeque<Bytes> {
    let mut bytes = Bytes::copy_from_slice(bytes);
    let mut pieces = VecDeque::new();
    for &size in sizes {
        pieces.push_back(bytes.split_to(usize::from(size).min(bytes.len())));
    }
    pieces.push_back(bytes);
    pieces
}

fuzz_target!(|input: Input<'_>| {
    let length = input.bytes.len() + 64 * input.pieces.len();
    let (ends, most) = measured(|| [&[][..], &input.pieces].map(|sizes| read(cut(input.bytes, sizes))));
    assert_eq!(ends[0], ends[1]);
    assert!(
        most <= 4 * length + BASE,
        "{most} bytes were held for an input of {length}"
    );
});
