//! The paths in one file (`crate::a::B`): in imports and in code, with the inline module that contains them.

use std::collections::BTreeSet;

use super::token::{Kind, Token, end_of_group, end_of_visibility};

/// A path as written in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// Its segments. A glob import ends with `*`; an import of `self` ends before it.
    pub(super) segments: Vec<String>,
    /// The line of its last segment, from 1.
    pub(super) line: usize,
    /// The inline modules that contain it, outermost first.
    pub(super) inside: Vec<String>,
}

/// One path of a `use`.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) path: Path,
    /// Its name in this file; `*` for a glob import.
    pub(super) name: String,
    /// Whether it is a re-export (`pub`, `pub(crate)`).
    pub(super) is_public: bool,
}

/// The content of one file.
#[derive(Debug, Default)]
pub(super) struct FileContent {
    /// Its imports.
    pub(super) uses: Vec<Use>,
    /// The paths in its code, each at its first occurrence. A single word counts if it could be a type.
    pub(super) code: Vec<Path>,
    /// The names of its definitions, at any depth.
    pub(super) items: BTreeSet<String>,
    /// The modules in files of their own, each with the inline modules that contain its declaration.
    pub(super) children: Vec<Vec<String>>,
    /// The inline modules.
    pub(super) inner_modules: Vec<Vec<String>>,
}

impl FileContent {
    /// Reads the tokens of one file.
    pub(super) fn of(tokens: &[Token<'_>]) -> Self {
        let mut reader = Reader {
            tokens,
            at: 0,
            content: Self::default(),
            seen: BTreeSet::new(),
        };
        reader.read(tokens.len(), &[]);
        reader.content
    }
}

/// The keywords that come before the name of an item.
const DEFINITIONS: [&str; 8] = [
    "const", "enum", "fn", "static", "struct", "trait", "type", "union",
];

struct Reader<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
    content: FileContent,
    /// The paths of code that are already in `content`, with the modules that contain them.
    seen: BTreeSet<(Vec<String>, Vec<String>)>,
}

impl<'a> Reader<'_, 'a> {
    /// Reads up to the index `end`, inside these modules.
    fn read(&mut self, end: usize, inside: &[String]) {
        while self.at < end {
            let item = end_of_visibility(self.tokens, self.at);
            let is_public = item > self.at;
            self.at = item;
            if self.is("use") && self.word_at(self.at + 1).is_some() {
                self.at += 1;
                self.import_tree(&[], inside, is_public);
            } else if self.is("mod") && self.word_at(self.at + 1).is_some() {
                self.module(inside);
            } else if self
                .word_at(self.at)
                .is_some_and(|word| DEFINITIONS.contains(&word))
            {
                self.content
                    .items
                    .extend(self.word_at(self.at + 1).map(str::to_owned));
                self.at += 2;
            } else if self.word_at(self.at).is_some() && !self.continues_something() {
                self.code(inside);
            } else if !is_public {
                self.at += 1;
            }
        }
    }

    fn is(&self, code: &str) -> bool {
        self.tokens.get(self.at).is_some_and(|token| token.is(code))
    }

    fn skip(&mut self, code: &str) -> bool {
        let is = self.is(code);
        self.at += usize::from(is);
        is
    }

    fn word_at(&self, at: usize) -> Option<&'a str> {
        self.tokens
            .get(at)
            .filter(|token| token.kind == Kind::Word)
            .map(|token| token.text)
    }

    /// Whether the word is a field, a method, or the rest of a path.
    fn continues_something(&self) -> bool {
        let before = self.at.checked_sub(1).map(|at| &self.tokens[at]);
        before.is_some_and(|token| token.is(".") || token.is("::"))
    }

    fn module(&mut self, inside: &[String]) {
        let mut module = inside.to_vec();
        module.extend(self.word_at(self.at + 1).map(str::to_owned));
        self.at += 2;
        if self.is("{") {
            self.content.inner_modules.push(module.clone());
            let end = end_of_group(self.tokens, self.at);
            self.read(end, &module);
        } else {
            self.content.children.push(module);
        }
    }

    /// `a::b`, `a::b as c`, `a::*`, or `a::{…}` of these.
    fn import_tree(&mut self, before: &[String], inside: &[String], is_public: bool) {
        let mut segments = before.to_vec();
        self.skip("::");
        loop {
            if self.skip("{") {
                while !self.skip("}") && self.at < self.tokens.len() {
                    self.import_tree(&segments, inside, is_public);
                    self.skip(",");
                }
                return;
            }
            let Some(token) = self.tokens.get(self.at) else {
                return;
            };
            self.at += 1;
            let ends_with_self = token.is("self") && !segments.is_empty();
            if !ends_with_self {
                segments.push(token.text.to_owned());
            }
            if self.skip("::") {
                continue;
            }
            let mut name = segments.last().cloned().unwrap_or_default();
            if self.skip("as") {
                name = self.word_at(self.at).unwrap_or("_").to_owned();
                self.at += 1;
            }
            let path = Path {
                segments,
                line: token.line,
                inside: inside.to_vec(),
            };
            self.content.uses.push(Use {
                path,
                name,
                is_public,
            });
            return;
        }
    }

    fn code(&mut self, inside: &[String]) {
        let mut segments = Vec::new();
        let mut line = 0;
        while let Some(word) = self.word_at(self.at) {
            line = self.tokens[self.at].line;
            segments.push(word.to_owned());
            self.at += 1;
            if self.word_at(self.at + 1).is_none() || !self.skip("::") {
                break;
            }
        }
        let could_be_a_type = segments[0].starts_with(char::is_uppercase);
        let is_path = segments.len() > 1 || could_be_a_type;
        let inside = inside.to_vec();
        if is_path && self.seen.insert((inside.clone(), segments.clone())) {
            self.content.code.push(Path {
                segments,
                line,
                inside,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::tokens;
    use super::*;

    fn uses(source: &str) -> Vec<String> {
        let content = FileContent::of(&tokens(source));
        let uses = content.uses.iter().map(|found| {
            let word = if found.is_public { "pub use" } else { "use" };
            let path = found.path.segments.join("::");
            format!("{} {word} {path} as {}", found.path.line, found.name)
        });
        uses.collect()
    }

    fn code(source: &str) -> Vec<String> {
        let content = FileContent::of(&tokens(source));
        let paths = content.code.iter();
        paths
            .map(|path| format!("{} {}", path.line, path.segments.join("::")))
            .collect()
    }

    #[test]
    fn a_nested_group_gives_every_path_with_its_own_line() {
        assert_eq!(
            uses("pub(crate) use crate::{\n  a::{self, B as C,\n  d::{E, f::*}},\n  g,\n};"),
            [
                "2 pub use crate::a as a",
                "2 pub use crate::a::B as C",
                "3 pub use crate::a::d::E as E",
                "3 pub use crate::a::d::f::* as *",
                "4 pub use crate::g as g",
            ]
        );
    }

    #[test]
    fn paths_and_types_in_code_are_found_but_not_fields_methods_and_visibilities() {
        assert_eq!(
            code("pub(in crate::a) fn b(c: D) { for e in 0..crate::f::g() { e.h.I(super::J::<K>::l) } }"),
            ["1 D", "1 crate::f::g", "1 super::J", "1 K"]
        );
    }

    #[test]
    fn inline_modules_and_modules_in_files_are_distinguished() {
        let content = FileContent::of(&tokens("mod a; mod b { mod c; use super::D; } use e::F;"));
        assert_eq!(
            content.children,
            [vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]]
        );
        assert_eq!(content.inner_modules, [["b"]]);
        assert_eq!(content.uses[0].path.inside, ["b"]);
        assert!(content.uses[1].path.inside.is_empty());
    }
}
