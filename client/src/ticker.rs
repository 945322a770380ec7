//! Once a second, for all that is looked at once a second: an idle laptop is woken once for all of it.

use std::{sync::LazyLock, time::Duration};

use tokio::time::Instant;

/// From one to the next.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// When the next one is due: a [`TICK`] away at most, and the same for everybody who asks before it.
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
    async fn all_that_is_looked_at_once_a_second_is_looked_at_together() {
        let first = next();
        advance(Duration::from_millis(300)).await;
        assert_eq!(next(), first);
        sleep_until(first).await;
        assert_eq!(next(), first + TICK);
        advance(Duration::from_millis(3700)).await;
        assert_eq!(next(), first + 4 * TICK);
    }
}
