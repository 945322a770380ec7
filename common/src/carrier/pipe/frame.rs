//! Packets as frames in a byte stream: a length, a checksum of that length, and the packet.
//!
//! QUIC authenticates every packet, so it finds a changed byte inside one. A changed length would make the reader lose the
//! frame boundaries; the checksum finds it at once, and nothing after it is read.

use bytes::{Buf, Bytes, BytesMut};

/// Longest packet in bytes. It fits into one packet of nearly every path, should the pipe itself be carried in packets.
pub const LONGEST: u16 = 1350;

/// Bytes before each packet: its length and the checksum, each a big-endian u16.
pub const HEADER: usize = 4;

/// The frame boundaries are lost. Nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// A length does not match its checksum: the bytes were changed on the way, or are not frames.
    #[error("the bytes of the pipe were changed on the way")]
    Changed,
    /// A length that no packet has.
    #[error("a packet of {0} bytes in the pipe")]
    Length(u16),
}

/// The header of a packet of `length` bytes.
pub(super) fn header(length: u16) -> [u8; HEADER] {
    let ([a, b], [c, d]) = (length.to_be_bytes(), check(length).to_be_bytes());
    [a, b, c, d]
}

/// The checksum of a length. It differs for every length (the factor is odd), so any change of one of the two is found.
fn check(length: u16) -> u16 {
    (length ^ 0x6a71).wrapping_mul(0x9e37)
}

/// Extracts packets from bytes that arrive in chunks of any size.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: BytesMut,
    broken: Option<BadFrame>,
}

impl Deframer {
    /// Appends a chunk.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The buffer, to read the next chunk into. It has room for one packet; where it had not, it is given room for `batch`
    /// bytes.
    pub(crate) fn space(&mut self, batch: usize) -> &mut BytesMut {
        let room = self.buffer.capacity() - self.buffer.len();
        if room < HEADER + usize::from(LONGEST) {
            self.buffer.reserve(batch);
        }
        &mut self.buffer
    }

    /// The next packet; none while it is incomplete. It is a slice of the buffer.
    ///
    /// # Errors
    /// When the frame boundaries are lost, then and ever after.
    pub fn next_packet(&mut self) -> Result<Option<Bytes>, BadFrame> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        match self.complete() {
            Ok(Some(length)) => {
                self.buffer.advance(HEADER);
                Ok(Some(self.buffer.split_to(length).freeze()))
            }
            Ok(None) => Ok(None),
            Err(broken) => {
                self.broken = Some(broken);
                self.buffer = BytesMut::new();
                Err(broken)
            }
        }
    }

    /// Whether the stream may end here: the last packet is complete.
    #[must_use]
    pub fn is_between_packets(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Length of the first packet, once it is complete.
    fn complete(&self) -> Result<Option<usize>, BadFrame> {
        let Some((&[a, b, c, d], rest)) = self.buffer.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let (length, checked) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if checked != check(length) {
            return Err(BadFrame::Changed);
        }
        if length == 0 || length > LONGEST {
            return Err(BadFrame::Length(length));
        }
        let length = usize::from(length);
        Ok((rest.len() >= length).then_some(length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn framed(packets: &[Vec<u8>]) -> Vec<u8> {
        packets
            .iter()
            .flat_map(|packet| {
                let length = u16::try_from(packet.len()).unwrap();
                header(length).into_iter().chain(packet.iter().copied())
            })
            .collect()
    }

    fn read(deframer: &mut Deframer) -> Result<Vec<Vec<u8>>, BadFrame> {
        std::iter::from_fn(|| deframer.next_packet().transpose())
            .map(|packet| packet.map(|packet| packet.to_vec()))
            .collect()
    }

    fn packets() -> impl Strategy<Value = Vec<Vec<u8>>> {
        vec(vec(any::<u8>(), 1..=usize::from(LONGEST)), 0..12)
    }

    #[test]
    fn an_invalid_length_is_reported() {
        for length in [0, LONGEST + 1, u16::MAX] {
            let mut deframer = Deframer::default();
            deframer.push(&header(length));
            assert_eq!(deframer.next_packet(), Err(BadFrame::Length(length)));
            deframer.push(&framed(&[vec![1]]));
            assert_eq!(deframer.next_packet(), Err(BadFrame::Length(length)), "for ever");
        }
    }

    #[test]
    fn every_changed_bit_of_a_header_is_found() {
        for length in 1..=LONGEST {
            let right = u32::from_be_bytes(header(length));
            for bit in 0..32 {
                let mut deframer = Deframer::default();
                deframer.push(&(right ^ 1 << bit).to_be_bytes());
                assert_eq!(deframer.next_packet(), Err(BadFrame::Changed));
            }
        }
    }

    proptest! {
        #[test]
        fn packets_are_extracted_however_the_bytes_are_split(packets in packets(), cuts: Vec<u8>) {
            let wire = framed(&packets);
            let mut deframer = Deframer::default();
            let (mut found, mut at, mut cuts) = (Vec::new(), 0, cuts.iter().cycle());
            while at < wire.len() {
                let piece = (1 + usize::from(*cuts.next().unwrap_or(&255))).min(wire.len() - at);
                deframer.push(&wire[at..at + piece]);
                found.extend(read(&mut deframer).unwrap());
                at += piece;
            }
            prop_assert_eq!(found, packets);
            prop_assert!(deframer.is_between_packets());
        }

        #[test]
        fn no_input_panics_or_takes_memory_out_of_proportion(pieces in vec(vec(any::<u8>(), 0..4000), 0..8)) {
            let mut deframer = Deframer::default();
            let mut pushed = 0;
            for piece in pieces {
                pushed += piece.len();
                deframer.push(&piece);
                let _ = read(&mut deframer);
                prop_assert!(deframer.buffer.capacity() <= 4 * pushed + 64);
            }
        }

        /// When frame boundaries are lost, reading stops within one frame: packets before it are unchanged, and at most one
        /// wrong packet comes after it.
        #[test]
        fn bytes_lost_or_added_in_the_middle_are_found(packets in packets(), at: prop::sample::Index, added: Option<u8>) {
            let mut wire = framed(&packets);
            prop_assume!(!wire.is_empty());
            let at = at.index(wire.len());
            match added {
                Some(byte) => wire.insert(at, byte),
                None => { wire.remove(at); }
            }
            let mut deframer = Deframer::default();
            deframer.push(&wire);
            let mut wrong = 0;
            let mut right = packets.iter();
            let broken = loop {
                match deframer.next_packet() {
                    Ok(Some(packet)) if right.next().is_some_and(|right| *right == packet) => {}
                    Ok(Some(_)) => wrong += 1,
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            prop_assert!(wrong <= 1);
            // With nothing behind it, that is an end inside a packet, or one packet that differs.
            prop_assert!(broken || !deframer.is_between_packets() || wrong == 1 || right.next().is_none());
        }
    }
}
