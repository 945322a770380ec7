//! Bounds that more than one part of the controller keeps to.

use std::time::Duration;

/// The largest congestion window, in bytes: 1 Gbit/s at a round-trip time of half a second.
pub(super) const MAX_WINDOW: u64 = 64 * 1024 * 1024;

/// The standing queue aimed at on a short path, as the time that a packet waits in it.
pub(super) const TARGET_QUEUE: Duration = Duration::from_millis(2);
