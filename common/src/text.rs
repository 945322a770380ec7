//! Sanitising remote text for printing.

/// Returns `text` as one line without control characters, bidirectional overrides or other invisible formatting, truncated
/// to `limit` characters and an ellipsis. Line breaks and tabs become spaces.
#[must_use]
pub fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::with_capacity(text.len().min(limit * 4));
    for (written, c) in without_escapes(text).enumerate() {
        if written == limit {
            line.push('…');
            break;
        }
        line.push(c);
    }
    line.truncate(line.trim_end().len());
    line
}

/// The characters of `text` with terminal escape sequences removed whole (ECMA-48: CSI, OSC and the two-byte ones),
/// white space as spaces, and every other control or invisible formatting character dropped.
fn without_escapes(text: &str) -> impl Iterator<Item = char> {
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        loop {
            match chars.next()? {
                '\u{1b}' => match chars.next() {
                    Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                    Some(']' | 'P' | 'X' | '^' | '_') => {
                        while let Some(c) = chars.next() {
                            if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                                break;
                            }
                        }
                    }
                    _ => {}
                },
                '\n' | '\t' => return Some(' '),
                c if c.is_control() || is_invisible(c) => {}
                c => return Some(c),
            }
        }
    })
}

/// Invisible formatting characters.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn escape_sequences_never_reach_the_terminal() {
        assert_eq!(
            one_line("\x1b[31mred\x1b[0m \x1b]0;title\x07x\x1b]8;;u\x1b\\y\x08\r\n", 80),
            "red xy"
        );
        assert_eq!(one_line("a\u{202e}b\u{9b}31mc", 80), "ab31mc");
    }

    #[test]
    fn long_text_is_truncated_with_an_ellipsis() {
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("abc", 3), "abc");
    }

    proptest::proptest! {
        #[test]
        fn no_control_character_is_left(text: String) {
            let line = one_line(&text, 200);
            proptest::prop_assert!(line.chars().all(|c| !c.is_control()));
            proptest::prop_assert!(line.chars().count() <= 201);
        }
    }
}
