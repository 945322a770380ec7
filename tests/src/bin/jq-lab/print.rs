//! Prints. No other file does.

use std::io::Write as _;

/// Says something on stdout. Whether anybody listens is not our business.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Says something on stderr.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
