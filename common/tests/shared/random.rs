//! Random numbers that a seed reproduces. Part of tests of common, agent and client.

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    #[allow(dead_code, reason = "not every test needs it")]
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Mostly a small number, sometimes any.
    #[allow(dead_code, reason = "not every test needs it")]
    pub(crate) fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => self.next(),
            1 => u64::MAX,
            2 => self.below(1 << 20),
            _ => self.below(20),
        }
    }

    /// Fewer bytes than `limit`.
    #[allow(dead_code, reason = "not every test needs it")]
    pub(crate) fn bytes(&mut self, limit: u64) -> Vec<u8> {
        let count = self.below(limit);
        (0..count).map(|_| self.next() as u8).collect()
    }
}
