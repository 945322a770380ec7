//! A small random number generator. A seed gives the same sequence on every machine and in every version.

/// SplitMix64: one word of state, good enough for simulated faults.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Each pair of seed and purpose has its own sequence.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut parent = Self(seed);
        let salt = parent.next();
        Self(salt ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number in `0.0..1.0`. Always advances the sequence by exactly one step.
    pub(crate) fn unit(&mut self) -> f64 {
        // A double holds 53 bits exactly.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_repeats_its_sequence_and_each_purpose_has_its_own() {
        let draw = |seed, purpose| {
            let mut random = Random::new(seed, purpose);
            [random.next(), random.next(), random.next()]
        };
        assert_eq!(draw(7, 1), draw(7, 1));
        assert_ne!(draw(7, 1), draw(7, 2));
        assert_ne!(draw(7, 1), draw(8, 1));
    }

    #[test]
    fn unit_is_uniformly_distributed() {
        let mut random = Random::new(1, 1);
        let mean = (0..100_000).map(|_| random.unit()).sum::<f64>() / 100_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }
}
