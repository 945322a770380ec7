//! Sanitises texts from other machines for the terminal.

use jq_common::text::one_line;

/// Limit of a line in characters.
const LINE: usize = 1000;

/// `text` as one line without control characters.
pub(super) fn clean(text: &str) -> String {
    one_line(text, LINE)
}

/// `text` without control characters, except line breaks.
pub(super) fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}
