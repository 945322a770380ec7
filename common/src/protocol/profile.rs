//! Names of profiles. A profile's name identifies its container, its state on the host and its local socket.

/// Longest name in bytes: it becomes part of a container's name and of a Unix socket's path.
pub const LONGEST: usize = 48;

/// What a name may be, for messages.
pub const RULE: &str = "letters, digits, `_`, `.` and `-`, 48 at most, the first a letter or digit";

/// Whether `text` is a name, as in [`RULE`]. Only ASCII counts.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(allowed)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_follows_the_rule() {
        for name in ["gpu", "a", "7", "A_b.c-d", &"x".repeat(LONGEST)] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "-a",
            ".a",
            "_a",
            "a/b",
            "a b",
            "ä",
            "../x",
            &"x".repeat(LONGEST + 1),
        ] {
            assert!(!is_name(name), "{name}");
        }
        assert!(RULE.contains(&format!("{LONGEST} at most")));
    }
}
