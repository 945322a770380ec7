//! Waits for a condition, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

const STEP: Duration = Duration::from_millis(10);

/// Asks `condition` again and again until it holds. Fails after `within`, naming `what` was awaited.
pub fn eventually(what: &str, within: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    eventually_some(what, within, || Ok(condition().then_some(())))
}

/// Asks `probe` again and again until it has something to give. Fails after `within`, naming `what` was
/// awaited and the last error that `probe` gave.
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
                bail!("waited {within:?} in vain for: {what}")
            };
            return Err(error).with_context(|| format!("waited {within:?} in vain for: {what}"));
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "waiting for a condition, with a deadline, is done here for all others"
)]
fn pause() {
    thread::sleep(STEP);
}
