//! The only file that prints.

use std::io::Write as _;

/// Prints a line on stdout. Ignores errors.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a line on stderr. Ignores errors.
pub(crate) fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
