//! Time that a measurement takes.

use std::{thread, time::Duration};

/// Lets a measurement last.
#[expect(
    clippy::disallowed_methods,
    reason = "a measurement has a length; nothing is waited for"
)]
pub fn last(length: Duration) {
    thread::sleep(length);
}
