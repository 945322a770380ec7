//! What a bootstrap and the role's process agree on, even when they are of different builds: time limits, and the
//! format of the handover snapshot.

use std::time::Duration;

use jq_common::bootstrap::FormatRange;

/// Time limit for a role's process to start, or to answer one message.
pub(crate) const START: Duration = Duration::from_secs(10);

/// Formats of the handover snapshot that this build reads. It writes the newest that its successor reads too; builds
/// without a common format refuse to upgrade each other before anything has changed. A new format is needed only for
/// what defaults cannot bridge: the snapshot's header is JSON, whose fields may be added and left out. Format 1 was never
/// released.
pub(crate) const SNAPSHOT_FORMATS: FormatRange = FormatRange { oldest: 2, newest: 2 };

/// Time limit for the successor's binary to print its version.
pub(crate) const VERSION_CHECK: Duration = Duration::from_secs(3);

/// Time limit for requests in progress to finish before an upgrade.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);

/// Time limit for each stage of a shutdown: sending resets, removing helper containers.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Time limit for all streams to stop before they are handed over.
pub(crate) const STANDSTILL: Duration = Duration::from_secs(1);

/// Time limit for a whole upgrade up to the execution of the successor.
pub(crate) const PREPARATION: Duration = VERSION_CHECK
    .saturating_add(DRAIN)
    .saturating_add(GRACE)
    .saturating_add(STANDSTILL);
