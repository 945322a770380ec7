//! Sleeps during a measurement.

use std::{thread, time::Duration};

/// Sleeps for the length of a measurement.
#[expect(
    clippy::disallowed_methods,
    reason = "a measurement has a given length; there is no condition to wait for"
)]
pub fn last(length: Duration) {
    thread::sleep(length);
}
