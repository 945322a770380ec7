//! Data that tests send.

use bytes::Bytes;

/// Bytes that do not compress, different for each seed.
pub(super) fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(2) + 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(seed | 1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Source code: compresses several times.
pub(super) fn text(length: usize) -> Bytes {
    let lines =
        (0..).flat_map(|line| format!("function f{line}(value) {{ return value * {line}; }}\n").into_bytes());
    lines.take(length).collect()
}
