//! The tokens of Rust source, without comments. Test code can be removed.

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier or a keyword.
    Word,
    /// A string, character or number. Its text is never treated as code.
    Literal,
    /// `::`, `..`, or any other single character.
    Mark,
}

/// A token, and the line on which it begins (from 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) line: usize,
}

impl Token<'_> {
    pub(super) fn is(&self, code: &str) -> bool {
        self.kind != Kind::Literal && self.text == code
    }
}

/// The tokens of `source`, including tests.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (kind, length) = next(rest, first);
        let (text, behind) = rest.split_at(length);
        if let Some(kind) = kind {
            tokens.push(Token { kind, text, line });
        }
        line += text.matches('\n').count();
        rest = behind;
    }
    tokens
}

/// The kind of the token at the start of `rest` (none for a comment or white space), and its length in bytes.
fn next(rest: &str, first: char) -> (Option<Kind>, usize) {
    if first.is_whitespace() {
        return (None, first.len_utf8());
    }
    if rest.starts_with("//") {
        return (None, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (None, block_comment(rest));
    }
    if let Some(length) = literal(rest) {
        return (Some(Kind::Literal), length);
    }
    if is_part_of_word(first) {
        let kind = if first.is_ascii_digit() {
            Kind::Literal
        } else {
            Kind::Word
        };
        return (
            Some(kind),
            rest.find(|c| !is_part_of_word(c)).unwrap_or(rest.len()),
        );
    }
    let is_double = rest.starts_with("::") || rest.starts_with("..");
    let length = if is_double { 2 } else { first.len_utf8() };
    (Some(Kind::Mark), length)
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a block comment; they nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of the string or character at the start of `rest`, including its prefix.
fn literal(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c"]
        .into_iter()
        .find(|prefix| {
            rest.strip_prefix(prefix)
                .is_some_and(|behind| behind.starts_with(['"', '#', '\'']))
        })
        .unwrap_or("");
    let body = &rest[prefix.len()..];
    let length = if prefix.ends_with('r') {
        raw_string(body)?
    } else if body.starts_with('"') {
        quoted(body, '"')
    } else if body.starts_with('\'') && !is_lifetime(body) {
        quoted(body, '\'')
    } else {
        return None;
    };
    Some(prefix.len() + length)
}

fn is_lifetime(body: &str) -> bool {
    let mut behind = body.chars().skip(1);
    let (first, second) = (behind.next(), behind.next());
    first != Some('\\') && second != Some('\'')
}

/// The length of `#"…"#` with any number of `#`. None for a raw identifier (`r#type`).
fn raw_string(body: &str) -> Option<usize> {
    let hashes = body.len() - body.trim_start_matches('#').len();
    let begin = hashes + 1;
    if !body[hashes..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    Some(
        body[begin..]
            .find(&end)
            .map_or(body.len(), |at| begin + at + end.len()),
    )
}

fn quoted(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    body.len()
}

/// `tokens` without test code: items with `#[cfg(test)]` or `#[test]`.
pub(super) fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let Some((attribute, behind)) = attribute(tokens, at) else {
            kept.push(tokens[at]);
            at += 1;
            continue;
        };
        if !is_of_tests(attribute) {
            kept.extend_from_slice(&tokens[at..behind]);
            at = behind;
        } else if tokens[at + 1].is("!") {
            at = tokens.len();
        } else {
            at = end_of_item(tokens, behind);
        }
    }
    kept
}

/// The attribute that begins at `at`, and the index after it.
fn attribute<'t, 'a>(tokens: &'t [Token<'a>], at: usize) -> Option<(&'t [Token<'a>], usize)> {
    let open = match tokens.get(at..)? {
        [hash, bracket, ..] if hash.is("#") && bracket.is("[") => at + 1,
        [hash, bang, bracket, ..] if hash.is("#") && bang.is("!") && bracket.is("[") => at + 2,
        _ => return None,
    };
    let behind = end_of_group(tokens, open);
    Some((&tokens[open..behind], behind))
}

/// Whether it is `cfg(test)` or similar (not `cfg(not(test))`), or marks a test, such as `#[tokio::test]`.
fn is_of_tests(attribute: &[Token<'_>]) -> bool {
    let words: Vec<_> = attribute
        .iter()
        .filter(|token| token.kind == Kind::Word)
        .map(|token| token.text)
        .collect();
    let is_condition = words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not");
    is_condition || words == ["test"] || words == ["tokio", "test"]
}

/// The index after the item that begins at `at`: after its `;`, its braces, or the `,` of a field or variant.
fn end_of_item(tokens: &[Token<'_>], mut at: usize) -> usize {
    while let Some((_, behind)) = attribute(tokens, at) {
        at = behind;
    }
    at = end_of_visibility(tokens, at);
    let is_import = tokens.get(at).is_some_and(|token| token.is("use"));
    let is_part = !tokens.get(at).is_some_and(|token| ITEMS.contains(&token.text));
    while let Some(token) = tokens.get(at) {
        match token.text {
            ";" => return at + 1,
            "," if is_part => return at + 1,
            "}" | ")" | "]" => return at,
            "{" if !is_import => return end_of_group(tokens, at),
            "{" | "(" | "[" => at = end_of_group(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// The words with which an item can begin.
const ITEMS: [&str; 15] = [
    "async", "const", "enum", "extern", "fn", "impl", "let", "mod", "static", "struct", "trait", "type",
    "union", "unsafe", "use",
];

/// The index after an optional visibility (`pub`, `pub(crate)`) at `at`.
pub(super) fn end_of_visibility(tokens: &[Token<'_>], at: usize) -> usize {
    match tokens.get(at..).unwrap_or_default() {
        [word, open, of, ..] if word.is("pub") && open.is("(") && VISIBLE_IN.contains(&of.text) => {
            end_of_group(tokens, at + 1)
        }
        [word, ..] if word.is("pub") => at + 1,
        _ => at,
    }
}

/// The first word inside `pub(…)`. Any other word is the type of a field.
const VISIBLE_IN: [&str; 4] = ["crate", "super", "self", "in"];

/// The index after the bracket that closes the one at `open`.
pub(super) fn end_of_group(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if token.kind == Kind::Mark {
            match token.text {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn production(source: &str) -> String {
        let texts: Vec<_> = without_tests(&tokens(source))
            .iter()
            .map(|token| token.text)
            .collect();
        texts.join(" ")
    }

    #[test]
    fn comments_are_left_out_but_not_strings_that_look_like_comments() {
        let source =
            "a /* b /* c */ d */ \"// \\\" e\" r#\"/* \" f\"# '\"' '\\'' &'g h // i\nr#type 1.5 b'\"'";
        assert_eq!(
            production(source),
            "a \"// \\\" e\" r#\"/* \" f\"# '\"' '\\'' & ' g h r # type 1 . 5 b'\"'"
        );
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let lines: Vec<_> = tokens("a\n/*\n*/ b \"\n\" c")
            .iter()
            .map(|token| token.line)
            .collect();
        assert_eq!(lines, [1, 3, 3, 4]);
    }

    #[test]
    fn test_code_is_left_out_and_nothing_else() {
        assert_eq!(production("#[cfg(test)] mod tests { fn a() {} } b"), "b");
        assert_eq!(production("#[cfg(test)] #[x] pub(crate) use a::{b, c}; d"), "d");
        assert_eq!(
            production("struct A { #[cfg(test)] b: C, d: E }"),
            "struct A { d : E }"
        );
        assert_eq!(
            production("#[cfg(any(test, fuzzing))] fn a<B, C>() -> [u8; 3] {} d"),
            "d"
        );
        assert_eq!(production("#[tokio::test] async fn a() {} b"), "b");
        assert_eq!(production("#![cfg(test)] a b"), "");
        assert_eq!(production("#[cfg(not(test))] a"), "# [ cfg ( not ( test ) ) ] a");
    }
}
