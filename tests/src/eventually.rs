//! Waits for a condition, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

const STEP: Duration = Duration::from_millis(10);

/// Checks `condition` repeatedly until it holds. Fails after `within`; the error names `what` was awaited.
pub fn eventually(what: &str, within: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    eventually_some(what, within, || Ok(condition().then_some(())))
}

/// Calls `probe` repeatedly until it returns a value. Fails after `within`; the error names `what` was awaited, and the
/// last error of `probe`.
pub fn eventually_some<T>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let last = match probe() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= deadline {
            let Some(error) = last else {
                bail!("not reached within {within:?}: {what}")
            };
            return Err(error).with_context(|| format!("not reached within {within:?}: {what}"));
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only place that waits for a condition, with a deadline"
)]
fn pause() {
    thread::sleep(STEP);
}
