//! A frame that comes in pieces, ahead of other bytes.

use bytes::{Buf, Bytes};

/// Bytes of a frame's length.
const PREFIX: usize = 4;

/// A frame that comes in pieces.
pub(super) struct FirstFrame {
    bytes: Vec<u8>,
    limit: usize,
}

impl FirstFrame {
    /// One whose body has at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
        }
    }

    /// How many bytes are missing, as far as that is known. None when the frame is too long.
    fn missing(&self) -> Option<usize> {
        let Some((length, body)) = self.bytes.split_first_chunk::<PREFIX>() else {
            return Some(PREFIX - self.bytes.len());
        };
        let length = u32::from_be_bytes(*length) as usize;
        (length <= self.limit).then(|| length - body.len())
    }

    /// Takes its own from the beginning of `chunk`, and returns how many bytes that were. None when the frame is too long.
    pub(super) fn take(&mut self, chunk: &mut Bytes) -> Option<usize> {
        let before = chunk.len();
        while !chunk.is_empty() {
            let count = self.missing()?.min(chunk.len());
            if count == 0 {
                break;
            }
            self.bytes.extend_from_slice(&chunk[..count]);
            chunk.advance(count);
        }
        self.missing()?;
        Some(before - chunk.len())
    }

    /// What it carries, as far as it is there.
    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get(PREFIX..).unwrap_or_default()
    }

    /// Whether all of it is there.
    pub(super) fn is_complete(&self) -> bool {
        self.missing() == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_frame_takes_its_own_bytes_in_whatever_pieces_they_come() {
        for size in 1..12 {
            let mut frame = FirstFrame::new(5);
            let mut rest = Vec::new();
            for piece in b"\0\0\0\x05helloGET /".chunks(size) {
                let mut chunk = Bytes::from_static(piece);
                frame.take(&mut chunk).unwrap();
                rest.extend_from_slice(&chunk);
            }
            assert!(frame.is_complete());
            assert_eq!(frame.body(), b"hello");
            assert_eq!(rest, b"GET /", "pieces of {size}");
        }
    }

    #[test]
    fn a_first_frame_that_is_too_long_is_refused_before_it_comes() {
        let mut frame = FirstFrame::new(5);
        let mut chunk = Bytes::from_static(b"\0\0\0\x06");
        assert_eq!(frame.take(&mut chunk), None);
        assert!(!frame.is_complete());
        let mut empty = FirstFrame::new(5);
        assert_eq!(empty.take(&mut Bytes::from_static(b"\0\0\0\0x")), Some(4));
        assert!(empty.is_complete());
    }
}
