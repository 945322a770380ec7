//! The first bytes of a connection: its stream in the ledger, and its job.

/// How long a header is.
pub(super) const LENGTH: usize = 48;

const MAGIC: [u8; 8] = *b"jqoracle";

/// What happens on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// A question of `size` bytes and an answer of as many, one after the other, as often as the caller is ordered to.
    Echo {
        /// Bytes each way (1 to 65,536).
        size: u64,
    },
    /// Both ways at once and independently, each up to its length and then an end. `u64::MAX`: until ordered to end.
    Bulk {
        /// Bytes from the side that connects.
        up: u64,
        /// Bytes to it.
        down: u64,
    },
    /// `up` bytes and an end; the answer begins only when that end has come.
    HalfClose {
        /// Bytes from the side that connects.
        up: u64,
        /// Bytes to it.
        down: u64,
    },
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) stream: u64,
    pub(super) job: Job,
}

impl Header {
    pub(super) fn encode(self) -> [u8; LENGTH] {
        let (kind, first, second) = match self.job {
            Job::Echo { size } => (1, size, 0),
            Job::Bulk { up, down } => (2, up, down),
            Job::HalfClose { up, down } => (3, up, down),
        };
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&MAGIC);
        for (field, value) in bytes[8..].chunks_mut(8).zip([self.stream, kind, first, second]) {
            field.copy_from_slice(&value.to_le_bytes());
        }
        // So that a header that was damaged on the way is known as such.
        let check = bytes[..40]
            .iter()
            .fold(0_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
        bytes[40..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// None if these are not the bytes that [`Self::encode`] gives.
    pub(super) fn decode(bytes: &[u8; LENGTH]) -> Option<Self> {
        let word = |index: usize| {
            bytes[index * 8..]
                .first_chunk()
                .map(|word| u64::from_le_bytes(*word))
        };
        let (stream, kind, first, second) = (word(1)?, word(2)?, word(3)?, word(4)?);
        let job = match kind {
            1 => Job::Echo { size: first },
            2 => Job::Bulk {
                up: first,
                down: second,
            },
            3 => Job::HalfClose {
                up: first,
                down: second,
            },
            _ => return None,
        };
        let header = Self { stream, job };
        (header.encode() == *bytes).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::{Header, Job, LENGTH};

    #[test]
    fn a_header_comes_back_as_it_was_and_a_damaged_one_does_not() {
        let jobs = [
            Job::Echo { size: 64 },
            Job::Bulk {
                up: 1,
                down: u64::MAX,
            },
            Job::HalfClose { up: 5, down: 6 },
        ];
        for job in jobs {
            let header = Header { stream: 9, job };
            let bytes = header.encode();
            assert_eq!(Header::decode(&bytes), Some(header));
            for at in 0..LENGTH {
                let mut damaged = bytes;
                damaged[at] ^= 1;
                assert_eq!(Header::decode(&damaged), None, "byte {at}");
            }
        }
    }
}
