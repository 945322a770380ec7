//! Decodes the blocks of a leg.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    deflate,
    format::{DEFLATED, HEADER, LARGEST},
};

/// Bytes on a leg are not a valid block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes that are not a valid block")]
pub struct BadBlock;

/// Decodes blocks from chunks of any size.
#[derive(Debug, Default)]
pub struct BlockDecoder {
    state: State,
}

/// The part of a block that the next byte belongs to.
#[derive(Debug)]
enum State {
    Header {
        bytes: [u8; HEADER],
        have: usize,
    },
    Plain {
        left: usize,
    },
    Deflated {
        left: usize,
        got: Vec<u8>,
    },
    /// An invalid block was found. Nothing after it can be decoded.
    Broken,
}

impl Default for State {
    fn default() -> Self {
        Self::Header {
            bytes: [0; HEADER],
            have: 0,
        }
    }
}

impl State {
    fn after(header: [u8; HEADER]) -> Result<Self, BadBlock> {
        let word = u32::from_be_bytes(header);
        let left = usize::try_from(word & !DEFLATED).map_err(|_| BadBlock)?;
        match word & DEFLATED {
            _ if left == 0 => Err(BadBlock),
            0 => Ok(Self::Plain { left }),
            // A sender compresses only what becomes smaller.
            _ if left >= LARGEST => Err(BadBlock),
            _ => Ok(Self::Deflated {
                left,
                got: Vec::new(),
            }),
        }
    }
}

impl BlockDecoder {
    /// The next bytes of the stream, taken out of `arrived`; none once that is empty. Those of a plain block are slices of
    /// `arrived`; those of a compressed block come as one chunk.
    ///
    /// # Errors
    /// [`BadBlock`], then and ever after.
    pub fn next(&mut self, arrived: &mut VecDeque<Bytes>) -> Result<Option<Bytes>, BadBlock> {
        let next = self.take(arrived);
        if next.is_err() {
            self.state = State::Broken;
        }
        next
    }

    fn take(&mut self, arrived: &mut VecDeque<Bytes>) -> Result<Option<Bytes>, BadBlock> {
        loop {
            let wanted = match &self.state {
                State::Header { have, .. } => HEADER - have,
                State::Plain { left } | State::Deflated { left, .. } => *left,
                State::Broken => return Err(BadBlock),
            };
            let Some(piece) = split(arrived, wanted) else {
                return Ok(None);
            };
            match &mut self.state {
                State::Header { bytes, have } => {
                    bytes[*have..*have + piece.len()].copy_from_slice(&piece);
                    *have += piece.len();
                    if *have == HEADER {
                        self.state = State::after(*bytes)?;
                    }
                }
                State::Plain { left } => {
                    *left -= piece.len();
                    if *left == 0 {
                        self.state = State::default();
                    }
                    return Ok(Some(piece));
                }
                State::Deflated { left, got } => {
                    *left -= piece.len();
                    got.extend_from_slice(&piece);
                    if *left == 0 {
                        let bytes = deflate::inflate(got, LARGEST).ok_or(BadBlock)?;
                        self.state = State::default();
                        return Ok(Some(bytes));
                    }
                }
                State::Broken => return Err(BadBlock),
            }
        }
    }

    /// Whether the last block is complete.
    #[must_use]
    pub fn is_between_blocks(&self) -> bool {
        matches!(self.state, State::Header { have: 0, .. })
    }
}

/// Takes the first bytes of what arrived, at most `most`. Never empty.
fn split(arrived: &mut VecDeque<Bytes>, most: usize) -> Option<Bytes> {
    while let Some(first) = arrived.front_mut() {
        if first.len() > most {
            return Some(first.split_to(most));
        }
        let whole = arrived.pop_front().filter(|whole| !whole.is_empty());
        if whole.is_some() {
            return whole;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::format::{deflated, plain},
        *,
    };

    fn cut(mut bytes: Bytes, sizes: &[usize]) -> VecDeque<Bytes> {
        let mut pieces = VecDeque::new();
        for &size in sizes {
            pieces.push_back(bytes.split_to(size.min(bytes.len())));
        }
        pieces.push_back(bytes);
        pieces
    }

    /// Decodes `pieces`, each given when the previous one is empty.
    fn unpack(pieces: VecDeque<Bytes>) -> Result<(Vec<u8>, bool), BadBlock> {
        let (mut decoder, mut all) = (BlockDecoder::default(), Vec::new());
        for piece in pieces {
            let mut arrived = VecDeque::from([piece]);
            while let Some(bytes) = decoder.next(&mut arrived)? {
                assert!(!bytes.is_empty());
                all.extend_from_slice(&bytes);
            }
            assert!(arrived.is_empty());
        }
        Ok((all, decoder.is_between_blocks()))
    }

    fn packed(content: &[u8], deflate_it: bool) -> Vec<u8> {
        let whole = Bytes::copy_from_slice(content);
        let small = deflate_it
            .then(|| deflate::deflate(std::slice::from_ref(&whole), content.len() - 1))
            .flatten();
        let (header, body) = match small {
            Some(small) => (deflated(small.len() as u32), small),
            None => (plain(content.len() as u32), whole),
        };
        [header, body].concat()
    }

    fn content() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 1..200),
            (1..LARGEST).prop_map(|length| b"the same again, "
                .iter()
                .copied()
                .cycle()
                .take(length)
                .collect()),
        ]
    }

    proptest! {
        #[test]
        fn blocks_decode_to_what_was_sent_however_they_are_split(
            blocks in prop::collection::vec((content(), any::<bool>()), 0..5),
            sizes in prop::collection::vec(0_usize..3000, 0..40),
        ) {
            let sent: Vec<u8> = blocks.iter().flat_map(|(content, _)| content.clone()).collect();
            let wire: Vec<u8> = blocks.iter().flat_map(|(content, small)| packed(content, *small)).collect();
            prop_assert_eq!(unpack(cut(wire.into(), &sizes)), Ok((sent, true)));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..500), sizes in prop::collection::vec(0_usize..9, 0..40)) {
            let _ = unpack(cut(bytes.into(), &sizes));
        }
    }

    #[test]
    fn an_invalid_block_is_refused() {
        let empty = [plain(0), deflated(0)];
        let long = [deflated(LARGEST as u32), deflated(!DEFLATED)];
        let broken = [Bytes::from(
            [deflated(3), Bytes::from_static(b"\xff\xff\xff")].concat(),
        )];
        for wire in empty.into_iter().chain(long).chain(broken) {
            assert_eq!(unpack([wire].into()), Err(BadBlock));
        }
    }

    #[test]
    fn a_block_that_decompresses_to_too_much_is_refused() {
        let zeros = Bytes::from(vec![0; LARGEST + 1]);
        let small = deflate::deflate(&[zeros], LARGEST).unwrap();
        let wire = Bytes::from([deflated(small.len() as u32), small].concat());
        assert_eq!(unpack([wire].into()), Err(BadBlock));
    }

    #[test]
    fn an_incomplete_block_is_noticed() {
        let wire = [plain(5), Bytes::from_static(b"four")];
        assert_eq!(unpack(wire.into()), Ok((b"four".to_vec(), false)));
    }
}
