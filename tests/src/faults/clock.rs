//! Waiting for a given time, and statistics of measured times.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

const STEP: Duration = Duration::from_millis(10);

/// Sleeps while a fault lasts.
#[expect(
    clippy::disallowed_methods,
    reason = "a fault lasts for a given time; there is no condition to wait for"
)]
pub(super) fn last(length: Duration) {
    thread::sleep(length);
}

/// Sleeps while a fault lasts, but only until `over` holds. Returns whether `over` holds.
pub(super) fn last_unless(length: Duration, mut over: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + length;
    while !over() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        last(left.min(STEP));
    }
    true
}

/// Calls `look` once a second, `times` times.
pub(super) fn each_second(times: u32, mut look: impl FnMut(u32) -> Result<()>) -> Result<()> {
    let start = Instant::now();
    for second in 1..=times {
        let next = start + Duration::from_secs(second.into());
        last(next.saturating_duration_since(Instant::now()));
        look(second)?;
    }
    Ok(())
}

/// The smallest value that is at least as large as `share` (0 to 1) of the values. Zero if there are no values.
pub(super) fn percentile(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

/// The largest value. Zero if there are no values.
pub(super) fn largest(values: &[Duration]) -> Duration {
    values.iter().copied().max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::percentile;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<_> = (1..=20).map(Duration::from_secs).collect();
        assert_eq!(percentile(&values, 0.95), Duration::from_secs(19));
        assert_eq!(percentile(&values, 0.5), Duration::from_secs(10));
        assert_eq!(percentile(&values[..1], 0.95), Duration::from_secs(1));
        assert_eq!(percentile(&[], 0.95), Duration::ZERO);
    }
}
