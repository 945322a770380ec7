//! Remote text that is sanitised for the terminal.
#![no_main]

use jq_common::text::one_line;
use jq_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (u16, &[u8])| {
    let (limit, bytes) = data;
    let text = String::from_utf8_lossy(bytes);
    let limit = usize::from(limit);
    let line = bounded(text.len(), || one_line(&text, limit));
    assert!(line.chars().count() <= limit + 1);
    assert!(!line.chars().any(char::is_control), "{line:?}");
    let turning = [
        '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}',
    ];
    assert!(!line.contains(turning), "{line:?}");
    assert_eq!(one_line(&line, usize::MAX / 8), line, "safe text was changed");
});
