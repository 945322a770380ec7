//! The paths of one file (`crate::a::B`): in its imports and in its code, with the module that they stand in.

use std::collections::BTreeSet;

use super::token::{Kind, Token, end_of_group, end_of_visibility};

/// A path as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// Its words. An import of everything ends with `*`; one of `self` ends before it.
    pub(super) segments: Vec<String>,
    /// The line of its last word, from 1.
    pub(super) line: usize,
    /// The modules inside the file that it stands in, outermost first.
    pub(super) inside: Vec<String>,
}

/// One path of a `use`.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) path: Path,
    /// The name that it has in this file; `*` for everything.
    pub(super) name: String,
    /// Others may find it here too (`pub`, `pub(crate)`).
    pub(super) is_public: bool,
}

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct FileContent {
    /// What it imports.
    pub(super) uses: Vec<Use>,
    /// The paths in its code, each where it stands first. A single word is one too if it could be a type.
    pub(super) code: Vec<Path>,
    /// The names of what it defines, at any depth.
    pub(super) items: BTreeSet<String>,
    /// Modules in files of their own, each with the modules inside this file that it is declared in.
    pub(super) children: Vec<Vec<String>>,
    /// Modules inside this file.
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

/// What stands before the name of an item.
const DEFINITIONS: [&str; 8] = [
    "const", "enum", "fn", "static", "struct", "trait", "type", "union",
];

struct Reader<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
    content: FileContent,
    /// The paths of code that are in `content`, with the modules that they stand in.
    seen: BTreeSet<(Vec<String>, Vec<String>)>,
}

impl<'a> Reader<'_, 'a> {
    /// Reads up to the index `end`, inside of these modules.
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

    /// A field, a method, or the rest of a path.
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
    fn a_nested_group_is_every_path_in_it_on_its_own_line() {
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
    fn code_names_paths_and_types_but_no_fields_methods_and_visibilities() {
        assert_eq!(
            code("pub(in crate::a) fn b(c: D) { for e in 0..crate::f::g() { e.h.I(super::J::<K>::l) } }"),
            ["1 D", "1 crate::f::g", "1 super::J", "1 K"]
        );
    }

    #[test]
    fn modules_inside_a_file_are_told_from_those_in_files_of_their_own() {
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
