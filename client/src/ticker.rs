//! A common phase for timers that fire once a second, so that an idle process wakes the CPU once a second in all.

use std::{sync::LazyLock, time::Duration};

use tokio::time::Instant;

/// Interval of the timers.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// Time of the next tick: at most [`TICK`] away, and the same for every caller until then.
#[must_use]
pub(crate) fn next() -> Instant {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let passed = Instant::now().saturating_duration_since(*FIRST);
    *FIRST + Duration::from_secs(passed.as_secs()) + TICK
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn timers_of_one_second_fire_together() {
        let first = next();
        advance(Duration::from_millis(300)).await;
        assert_eq!(next(), first);
        sleep_until(first).await;
        assert_eq!(next(), first + TICK);
        advance(Duration::from_millis(3700)).await;
        assert_eq!(next(), first + 4 * TICK);
    }
}
