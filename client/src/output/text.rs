//! Texts from elsewhere, made safe for a terminal.

use jq_common::text::one_line;

/// Longest text of one line that came from elsewhere, in characters.
const LINE: usize = 1000;

/// `text` as one line without control characters.
pub(super) fn clean(text: &str) -> String {
    one_line(text, LINE)
}

/// `text` without control characters but the ends of its lines.
pub(super) fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}
