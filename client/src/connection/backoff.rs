//! Delays between attempts. Pure: time and randomness come from the caller.

use std::time::{Duration, Instant};

/// Exponential backoff with full jitter: each delay is uniform between zero and a limit that doubles up to a cap, so that
/// clients which lost the same host do not reconnect at the same moment.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    cap: Duration,
    limit: Duration,
}

impl Backoff {
    /// The first delay is at most `first`, every delay at most `cap`.
    #[must_use]
    pub(crate) fn new(first: Duration, cap: Duration) -> Self {
        Self {
            cap,
            limit: first.min(cap),
        }
    }

    /// The next delay. `random` must be uniform over `u32`.
    pub(crate) fn next(&mut self, random: u32) -> Duration {
        let limit = self.limit;
        self.limit = limit.saturating_mul(2).min(self.cap);
        part(limit, random)
    }
}

/// `whole * random / 2^32`, which is less than `whole`.
fn part(whole: Duration, random: u32) -> Duration {
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(nanos) * u128::from(random)) >> 32;
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

/// Rate limit for starts of ssh: sshd penalises sources that retry too fast (`PerSourcePenalties` in sshd_config(5)).
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts {
    last: Option<Instant>,
}

impl Attempts {
    /// Minimum time between two starts.
    pub(crate) const SSH: Duration = Duration::from_secs(15);

    /// Minimum time between two starts that were asked for.
    pub(crate) const ASKED: Duration = Duration::from_secs(5);

    /// Time from `now` until the last start is `apart` ago; zero before the first start.
    #[must_use]
    pub(crate) fn wait(&self, now: Instant, apart: Duration) -> Duration {
        self.last.map_or(Duration::ZERO, |last| {
            apart.saturating_sub(now.saturating_duration_since(last))
        })
    }

    /// Records a start.
    pub(crate) fn start(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// Counts time in which this machine was suspended: `Instant` stands still meanwhile, sshd does not.
    pub(crate) fn credit(&mut self, suspended: Duration) {
        self.last = self.last.and_then(|last| last.checked_sub(suspended));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let mut backoff = Backoff::new(millis(250), millis(10_000));
        let half = 1 << 31;
        let mut waits = |n| -> Vec<_> { (0..n).map(|_| backoff.next(half).as_millis()).collect() };
        assert_eq!(waits(8), [125, 250, 500, 1000, 2000, 4000, 5000, 5000]);
    }

    #[test]
    fn chance_spreads_a_wait_over_all_of_its_room() {
        for (random, at_least, below) in [
            (0, 0, 1),
            (1 << 30, 250, 251),
            (3 << 30, 750, 751),
            (u32::MAX, 999, 1000),
        ] {
            let wait = Backoff::new(millis(1000), millis(1000)).next(random);
            assert!(
                wait >= millis(at_least) && wait < millis(below),
                "{random}: {wait:?}"
            );
        }
    }

    #[test]
    fn the_first_wait_is_within_the_cap_too() {
        assert!(Backoff::new(millis(500), millis(100)).next(u32::MAX) < millis(100));
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_its_limit_whatever_the_numbers(
            first: Duration, cap: Duration, randoms in prop::collection::vec(any::<u32>(), 1..80)
        ) {
            let mut backoff = Backoff::new(first, cap);
            for (tries, random) in randoms.into_iter().enumerate() {
                let limit = first.saturating_mul(1u32.checked_shl(tries as u32).unwrap_or(u32::MAX)).min(cap);
                prop_assert!(backoff.next(random) <= limit);
            }
        }

        #[test]
        fn starts_of_attempts_that_wait_are_never_closer_than_promised(
            steps in prop::collection::vec((0u64..40_000, 0u64..20_000), 1..50)
        ) {
            let mut attempts = Attempts::default();
            let (mut now, mut suspended) = (Instant::now(), Duration::ZERO);
            let mut last: Option<(Instant, Duration)> = None;
            for (step, asleep) in steps {
                now += millis(step);
                suspended += millis(asleep);
                attempts.credit(millis(asleep));
                now += attempts.wait(now, Attempts::SSH);
                attempts.start(now);
                let apart = last.map(|(at, before)| now - at + (suspended - before));
                prop_assert!(apart.is_none_or(|apart| apart >= Attempts::SSH));
                last = Some((now, suspended));
            }
        }
    }

    #[test]
    fn the_first_attempt_starts_at_once_and_one_that_the_user_asks_for_soon() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        assert_eq!(attempts.wait(now, Attempts::SSH), Duration::ZERO);
        attempts.start(now);
        assert_eq!(attempts.wait(now, Attempts::SSH), Attempts::SSH);
        assert_eq!(attempts.wait(now + millis(4_000), Attempts::SSH), millis(11_000));
        assert_eq!(attempts.wait(now + millis(4_000), Attempts::ASKED), millis(1_000));
        assert_eq!(attempts.wait(now + millis(15_000), Attempts::SSH), Duration::ZERO);
    }

    #[test]
    fn time_asleep_counts_towards_the_next_attempt() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        attempts.start(now);
        attempts.credit(millis(6_000));
        assert_eq!(attempts.wait(now, Attempts::SSH), millis(9_000));
        attempts.credit(Duration::from_secs(8 * 3600));
        assert_eq!(attempts.wait(now, Attempts::SSH), Duration::ZERO);
        attempts.start(now);
        assert_eq!(attempts.wait(now, Attempts::SSH), Attempts::SSH);
    }

    #[test]
    fn a_moment_before_the_last_start_is_no_underflow() {
        let now = Instant::now();
        let mut attempts = Attempts::default();
        attempts.start(now + millis(100));
        assert_eq!(attempts.wait(now, Attempts::SSH), Attempts::SSH);
    }
}
