//! The content of a stream: word `n` of a direction is a hash of the stream, the direction and `n`.

/// Bytes in a word.
const WORD: u64 = 8;

/// The direction of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the connecting side.
    Up,
    /// To the connecting side.
    Down,
}

/// The content of one direction of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern {
    key: u64,
}

impl Pattern {
    pub(super) fn new(stream: u64, direction: Direction) -> Self {
        let way = match direction {
            Direction::Up => 1,
            Direction::Down => 2,
        };
        Self {
            key: mix(mix(stream).wrapping_add(way)),
        }
    }

    /// Fills `bytes` with the content from `offset`.
    pub(super) fn fill(self, offset: u64, buffer: &mut [u8]) {
        let head = self.head(offset, buffer.len());
        let (first, rest) = buffer.split_at_mut(head);
        let skip = (offset % WORD) as usize;
        first.copy_from_slice(&self.word(offset / WORD)[skip..skip + head]);
        let start = (offset + head as u64) / WORD;
        for (chunk, index) in rest.chunks_mut(WORD as usize).zip(start..) {
            chunk.copy_from_slice(&self.word(index)[..chunk.len()]);
        }
    }

    /// The index of the first wrong byte in `bytes`, which begin at `offset`.
    pub(super) fn first_wrong(self, offset: u64, bytes: &[u8]) -> Option<usize> {
        let head = self.head(offset, bytes.len());
        let (first, rest) = bytes.split_at(head);
        let skip = (offset % WORD) as usize;
        if let Some(at) = differ(first, &self.word(offset / WORD)[skip..skip + head]) {
            return Some(at);
        }
        let start = (offset + head as u64) / WORD;
        for ((chunk, index), at) in rest
            .chunks(WORD as usize)
            .zip(start..)
            .zip((head..).step_by(WORD as usize))
        {
            let word = self.word(index);
            if chunk != &word[..chunk.len()] {
                return differ(chunk, &word[..chunk.len()]).map(|inside| at + inside);
            }
        }
        None
    }

    /// How many of `len` bytes from `offset` belong to a word that begins before `offset`.
    fn head(self, offset: u64, len: usize) -> usize {
        let inside = offset % WORD;
        if inside == 0 {
            0
        } else {
            len.min((WORD - inside) as usize)
        }
    }

    fn word(self, index: u64) -> [u8; WORD as usize] {
        mix(self.key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15))).to_le_bytes()
    }
}

fn differ(left: &[u8], right: &[u8]) -> Option<usize> {
    left.iter().zip(right).position(|(a, b)| a != b)
}

/// The output function of SplitMix64.
fn mix(word: u64) -> u64 {
    let mut word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::{Direction, Pattern};

    #[test]
    fn pieces_of_any_size_at_any_offset_belong_to_the_same_content() {
        let pattern = Pattern::new(7, Direction::Up);
        let mut whole = [0; 300];
        pattern.fill(0, &mut whole);
        for offset in 0..40 {
            for len in 0..40 {
                let mut piece = vec![0; len];
                pattern.fill(offset as u64, &mut piece);
                assert_eq!(piece, whole[offset..offset + len]);
                assert_eq!(pattern.first_wrong(offset as u64, &piece), None);
            }
        }
    }

    #[test]
    fn every_changed_missing_or_duplicated_byte_is_found_at_its_offset() {
        let pattern = Pattern::new(7, Direction::Down);
        let mut whole = [0; 200];
        pattern.fill(3, &mut whole);
        for at in 0..whole.len() {
            let mut changed = whole;
            changed[at] ^= 0x10;
            assert_eq!(pattern.first_wrong(3, &changed), Some(at));
        }
        assert!(
            pattern.first_wrong(3, &whole[1..]).is_some(),
            "a missing byte was not found"
        );
        assert!(
            pattern.first_wrong(4, &whole).is_some(),
            "a duplicated byte was not found"
        );
    }

    #[test]
    fn streams_and_directions_have_different_content() {
        let first = |stream, direction| {
            let mut bytes = [0; 16];
            Pattern::new(stream, direction).fill(0, &mut bytes);
            bytes
        };
        assert_ne!(first(1, Direction::Up), first(1, Direction::Down));
        assert_ne!(first(1, Direction::Up), first(2, Direction::Up));
    }
}
