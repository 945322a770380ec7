//! Encodes what is sent on a leg as blocks, and decides which of them are compressed. No I/O and no clock.
//!
//! The length of a compressed block tells an observer on the path whether data chosen by an attacker repeats a secret beside
//! it (the CRIME and BREACH attacks). So the caller says from which offset a stream may be compressed, which is behind the
//! head of a request or a response, and blocks do not share a dictionary.

use bytes::{Buf, Bytes};

use super::{
    deflate,
    format::{self, LARGEST},
};
use crate::session::core::StreamCore;

/// Most chunks given to QUIC at once.
pub(in crate::session) const BATCH: usize = 16;

/// Fewer bytes are not worth compressing.
const SMALLEST: usize = 4 * 1024;

/// Bytes sent plain after a block that did not compress well: after the first one, and at most.
const PAUSES: [usize; 2] = [256 * 1024, 4 * 1024 * 1024];

/// Encodes the blocks of one leg.
#[derive(Debug)]
pub(in crate::session) struct BlockEncoder {
    /// The header and compressed body of the current block, as far as QUIC has not taken them.
    begun: [Bytes; 2],
    /// Bytes of the stream that the current plain block still takes.
    left: usize,
    /// Bytes for which compression is not tried, now and after the next failure.
    pause: usize,
    next_pause: usize,
}

/// What [`BlockEncoder::begin`] began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Began {
    /// Nothing: a block is incomplete, or there is nothing to send.
    Nothing,
    /// A plain block.
    Plain,
    /// A block, after an attempt to compress it. That takes as long as sending a hundred packets.
    Tried,
}

impl BlockEncoder {
    pub(in crate::session) fn new() -> Self {
        Self {
            begun: Default::default(),
            left: 0,
            pause: 0,
            next_pause: PAUSES[0],
        }
    }

    /// Whether QUIC has taken the last block: another may begin.
    pub(in crate::session) fn is_between_blocks(&self) -> bool {
        self.left == 0 && !self.begun.iter().any(Bytes::has_remaining)
    }

    /// Begins a block of what is to be sent next, if QUIC has taken the last one. Nothing before the offset
    /// `compressible_from` is compressed, and nothing at all where there is none: then everything that waits is one block,
    /// since quinn searches the segments of a stream for each packet. Bytes that are compressed count as sent.
    pub(in crate::session) fn begin(
        &mut self,
        core: &mut StreamCore,
        generation: u64,
        compressible_from: Option<u64>,
    ) -> Began {
        let waiting = core.unsent(generation);
        if waiting.is_empty() || !self.is_between_blocks() {
            return Began::Nothing;
        }
        let waiting_bytes = small(waiting.end - waiting.start);
        let plain = match compressible_from {
            None => waiting_bytes,
            Some(from) => small(from.saturating_sub(waiting.start))
                .max(self.pause)
                .min(waiting_bytes),
        };
        if plain > 0 {
            self.begin_plain(plain);
            return Began::Plain;
        }
        let count = waiting_bytes.min(LARGEST);
        let mut chunks: [Bytes; BATCH] = Default::default();
        let taken = core.batch(generation, &mut chunks);
        let (places, together) = cut(&mut chunks[..taken], count);
        if together < SMALLEST {
            self.begin_plain(count);
            return Began::Plain;
        }
        if self.begin_deflated(&chunks[..places], together) {
            core.sent(generation, together as u64);
        } else {
            self.begin_plain(count);
        }
        Began::Tried
    }

    fn begin_plain(&mut self, count: usize) {
        self.left = count;
        self.begun = [format::plain(length(count)), Bytes::new()];
        self.pause = self.pause.saturating_sub(count);
    }

    /// False when `chunks`, of `count` bytes, do not compress to three quarters.
    fn begin_deflated(&mut self, chunks: &[Bytes], count: usize) -> bool {
        // The compressed copy takes memory beside the send buffer, and time at both ends.
        let Some(deflated) = deflate::deflate(chunks, count / 4 * 3) else {
            self.pause = self.next_pause;
            self.next_pause = (2 * self.next_pause).min(PAUSES[1]);
            return false;
        };
        self.begun = [format::deflated(length(deflated.len())), deflated];
        self.next_pause = PAUSES[0];
        true
    }

    /// Fills `batch` with the chunks to give to QUIC next. Returns how many it filled.
    pub(in crate::session) fn fill(&self, core: &StreamCore, generation: u64, batch: &mut [Bytes]) -> usize {
        let mut own = 0;
        let begun = self.begun.iter().filter(|part| part.has_remaining());
        for (place, part) in batch.iter_mut().zip(begun) {
            place.clone_from(part);
            own += 1;
        }
        let taken = core.batch(generation, &mut batch[own..]);
        let (plain, _) = cut(&mut batch[own..own + taken], self.left);
        own + plain
    }

    /// QUIC took `count` bytes of the batch. Those of a plain block count as sent.
    pub(in crate::session) fn took(&mut self, core: &mut StreamCore, generation: u64, mut count: usize) {
        for part in &mut self.begun {
            let of_this = count.min(part.len());
            // Not `advance`: an empty rest would keep the memory.
            drop(part.split_to(of_this));
            count -= of_this;
        }
        self.left -= count;
        core.sent(generation, count as u64);
    }
}

/// Truncates `chunks` to `most` bytes. Returns how many chunks and how many bytes those are.
fn cut(chunks: &mut [Bytes], most: usize) -> (usize, usize) {
    let mut count = 0;
    for (place, chunk) in chunks.iter_mut().enumerate() {
        if count == most {
            return (place, count);
        }
        chunk.truncate(most - count);
        count += chunk.len();
    }
    (chunks.len(), count)
}

fn small(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::{prelude::*, sample::Index};

    use super::*;
    use crate::session::{
        block::BlockDecoder,
        samples::{noise, text},
    };

    const GENERATION: u64 = 1;

    /// A stream on the attachment of [`GENERATION`], with `chunks` to send.
    fn with(chunks: impl IntoIterator<Item = Bytes>) -> StreamCore {
        let mut core = StreamCore::new(0, 0);
        chunks.into_iter().for_each(|chunk| core.write(chunk));
        core.offer(GENERATION);
        core
    }

    /// Sends the next block. Returns what was begun, and its length on the wire.
    fn block(
        encoder: &mut BlockEncoder,
        core: &mut StreamCore,
        compressible_from: Option<u64>,
    ) -> (Began, usize) {
        let began = encoder.begin(core, GENERATION, compressible_from);
        let mut length = 0;
        loop {
            let mut batch: [Bytes; BATCH] = Default::default();
            let filled = encoder.fill(core, GENERATION, &mut batch);
            if filled == 0 {
                assert!(encoder.is_between_blocks());
                return (began, length);
            }
            let count = batch[..filled].iter().map(Bytes::len).sum();
            encoder.took(core, GENERATION, count);
            length += count;
        }
    }

    #[test]
    fn nothing_before_the_given_offset_is_compressed() {
        let (mut encoder, mut core) = (BlockEncoder::new(), with([text(LARGEST)]));
        assert_eq!(
            block(&mut encoder, &mut core, Some(20_000)),
            (Began::Plain, 20_004)
        );
        let (began, length) = block(&mut encoder, &mut core, Some(20_000));
        assert_eq!(began, Began::Tried);
        assert!(length < (LARGEST - 20_000) / 2, "{length}");
        assert_eq!(block(&mut encoder, &mut core, Some(20_000)), (Began::Nothing, 0));
    }

    #[test]
    fn nothing_is_compressed_where_that_is_not_allowed() {
        let (mut encoder, mut core) = (BlockEncoder::new(), with([text(LARGEST), text(1)]));
        assert_eq!(block(&mut encoder, &mut core, None), (Began::Plain, LARGEST + 5));
        assert_eq!(block(&mut encoder, &mut core, None), (Began::Nothing, 0));
    }

    #[test]
    fn a_few_bytes_are_not_compressed() {
        let mut core = with([text(SMALLEST - 1)]);
        assert_eq!(
            block(&mut BlockEncoder::new(), &mut core, Some(0)).0,
            Began::Plain
        );
        let mut core = with([text(SMALLEST)]);
        assert_eq!(
            block(&mut BlockEncoder::new(), &mut core, Some(0)).0,
            Began::Tried
        );
    }

    #[test]
    fn compression_of_data_that_does_not_compress_is_tried_less_and_less_often() {
        let noise = noise(LARGEST, 0);
        let mut core = with(std::iter::repeat_n(noise, 500));
        let mut encoder = BlockEncoder::new();
        let mut tries = Vec::new();
        while tries.len() < 7 {
            let before = core.unsent(GENERATION).start;
            if block(&mut encoder, &mut core, Some(0)).0 == Began::Tried {
                tries.push(before / LARGEST as u64);
            }
        }
        // Four blocks are 256 KiB, 64 are 4 MiB.
        assert_eq!(tries, [0, 4, 12, 28, 60, 124, 188]);
        core.write(text(LARGEST));
        while encoder.pause > 0 {
            encoder.begin_plain(LARGEST);
            encoder.left = 0;
            encoder.begun = Default::default();
        }
        assert!(encoder.begin_deflated(&[text(LARGEST)], LARGEST));
        assert_eq!(encoder.next_pause, PAUSES[0], "it is tried often again");
    }

    #[test]
    fn a_block_that_quic_took_keeps_no_memory() {
        let (mut encoder, mut core) = (BlockEncoder::new(), with([text(LARGEST)]));
        encoder.begin(&mut core, GENERATION, Some(0));
        let taken: Vec<_> = encoder.begun.to_vec();
        assert_eq!(taken.iter().filter(|part| part.is_unique()).count(), 0);
        encoder.took(&mut core, GENERATION, taken.iter().map(Bytes::len).sum());
        assert!(taken[1].is_unique());
    }

    fn content() -> impl Strategy<Value = Vec<Bytes>> {
        let chunk = prop_oneof![
            (1..3000_usize).prop_map(|length| noise(length, 0)),
            (1..20_000_usize).prop_map(text),
            (LARGEST - 2..LARGEST + 2).prop_map(text),
        ];
        prop::collection::vec(chunk, 1..12)
    }

    /// An event of the test.
    #[derive(Clone, Debug)]
    enum Step {
        /// QUIC takes this part of what there is.
        Take(Index),
        /// This part of what it took arrives.
        Arrive(Index),
        /// The leg is lost with what has not arrived; the next one begins.
        Lose,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => any::<Index>().prop_map(Step::Take),
            8 => any::<Index>().prop_map(Step::Arrive),
            1 => Just(Step::Lose),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// Both ends of a stream, and the leg between them.
    struct Way {
        from: StreamCore,
        to: StreamCore,
        generation: u64,
        encoder: BlockEncoder,
        decoder: BlockDecoder,
        wire: VecDeque<u8>,
        at: u64,
        got: Vec<u8>,
    }

    impl Way {
        fn begin(chunks: Vec<Bytes>) -> Self {
            let mut from = with(chunks);
            from.finish();
            Self {
                from,
                to: StreamCore::new(0, GENERATION),
                generation: GENERATION,
                encoder: BlockEncoder::new(),
                decoder: BlockDecoder::default(),
                wire: VecDeque::new(),
                at: 0,
                got: Vec::new(),
            }
        }

        fn take(&mut self, part: impl Fn(usize) -> usize) {
            self.encoder.begin(&mut self.from, self.generation, Some(5000));
            let mut batch: [Bytes; BATCH] = Default::default();
            let filled = self.encoder.fill(&self.from, self.generation, &mut batch);
            let all = batch[..filled].concat();
            let count = part(all.len());
            self.wire.extend(&all[..count]);
            self.encoder.took(&mut self.from, self.generation, count);
        }

        fn arrive(&mut self, part: impl Fn(usize) -> usize) {
            let count = part(self.wire.len());
            let mut arrived = VecDeque::from([self.wire.drain(..count).collect::<Bytes>()]);
            while let Some(bytes) = self.decoder.next(&mut arrived).unwrap() {
                let offset = self.at;
                self.at += bytes.len() as u64;
                let new = self.to.accept(self.generation, offset, bytes).unwrap();
                let new = new.expect("no byte arrives twice");
                self.to.deliver(new.len() as u64);
                self.got.extend_from_slice(&new);
            }
        }

        fn lose(&mut self) {
            self.generation += 1;
            let entry = self.to.fence(self.generation);
            self.from.resume(self.generation, Some(&entry)).unwrap();
            (self.encoder, self.decoder) = (BlockEncoder::new(), BlockDecoder::default());
            self.wire.clear();
            self.at = entry.received;
        }

        fn is_sent(&self) -> bool {
            self.encoder.is_between_blocks() && self.from.unsent(self.generation).is_empty()
        }
    }

    proptest! {
        #[test]
        fn every_byte_arrives_once_and_in_order_through_lost_legs(
            chunks in content(),
            steps in steps(),
        ) {
            let sent = chunks.concat();
            let mut way = Way::begin(chunks);
            for step in steps {
                match step {
                    Step::Take(part) => way.take(|all| part.index(all + 1)),
                    Step::Arrive(part) => way.arrive(|all| part.index(all + 1)),
                    Step::Lose => way.lose(),
                }
                prop_assert!(sent.starts_with(&way.got));
            }
            while !way.is_sent() {
                way.take(|all| all);
            }
            way.arrive(|all| all);
            prop_assert_eq!(&way.got, &sent);
            prop_assert!(way.from.take_end(way.generation));
            prop_assert!(way.decoder.is_between_blocks());
        }
    }
}
