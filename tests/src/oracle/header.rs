//! The first bytes of a connection: the number of its stream in the ledger, and its job.

/// Length of a header in bytes.
pub(super) const LENGTH: usize = 48;

const MAGIC: [u8; 8] = *b"jqoracle";

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Requests of `size` bytes, each with an answer of the same size, as many as the caller is ordered to send.
    Echo {
        /// Bytes in each direction (1 to 65,536).
        size: u64,
    },
    /// Data in both directions independently, each with its length and then an end. `u64::MAX`: until ordered to end.
    Bulk {
        /// Bytes from the connecting side.
        up: u64,
        /// Bytes to the connecting side.
        down: u64,
    },
    /// `up` bytes and an end. The answer begins only after that end has arrived.
    HalfClose {
        /// Bytes from the connecting side.
        up: u64,
        /// Bytes to the connecting side.
        down: u64,
    },
}

/// The beginning of a connection.
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
        // A checksum, so that a damaged header is detected.
        let check = bytes[..40]
            .iter()
            .fold(0_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
        bytes[40..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// None if the bytes are not a result of [`Self::encode`].
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
    fn a_header_survives_encoding_and_a_damaged_one_is_refused() {
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
