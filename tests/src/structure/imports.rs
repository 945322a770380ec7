//! Which file of a crate imports which, and where.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::Result;

use super::{modules::Modules, sources::Sources};

/// An import: one file of a crate uses a name of another file. Tests are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The importing file, relative to the crate's source folder.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The path as written in the source.
    pub path: String,
    /// The file that defines the name, also if another file re-exports it (`pub use`).
    pub defined_in: String,
    /// Whether the importing file only re-exports the name.
    pub is_reexport: bool,
}

impl std::fmt::Display for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            file,
            line,
            path,
            defined_in,
            ..
        } = self;
        write!(f, "{file}:{line} imports {defined_in} ({path})")
    }
}

/// All imports between the files of a crate.
#[derive(Debug)]
pub struct Imports {
    files: Vec<String>,
    imports: Vec<Import>,
}

impl Imports {
    /// Reads the crate `crate_name`, starting with `lib.rs` and `main.rs`.
    ///
    /// # Errors
    /// Neither of the two exists, or a module's file is not where it belongs (`foo.rs` beside `foo/`).
    pub fn of(sources: &Sources, crate_name: &str) -> Result<Self> {
        let modules = Modules::of(sources, crate_name)?;
        let mut seen = BTreeSet::new();
        let mut imports = Vec::new();
        for file in &modules.files {
            let imported = file
                .content
                .uses
                .iter()
                .map(|found| (&found.path, found.is_public));
            let named = file.content.code.iter().map(|path| (path, false));
            for (path, is_reexport) in imported.chain(named) {
                let defined_in = modules.defined_in(file, path).filter(|other| *other != file.name);
                let Some(defined_in) =
                    defined_in.filter(|other| seen.insert((&file.name, *other, is_reexport)))
                else {
                    continue;
                };
                imports.push(Import {
                    file: file.name.clone(),
                    line: path.line,
                    path: path.segments.join("::"),
                    defined_in: defined_in.to_owned(),
                    is_reexport,
                });
            }
        }
        let files = modules.files.into_iter().map(|file| file.name).collect();
        Ok(Self { files, imports })
    }

    /// The files of the crate, without those that only tests use.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// Every importing and imported file once, with the first such import.
    pub fn iter(&self) -> impl Iterator<Item = &Import> {
        self.imports.iter()
    }

    /// Import cycles that share no import, so that one wrong import gives one cycle. Empty only if there is no cycle.
    /// Re-exports are not part of a cycle.
    pub fn cycles(&self) -> Vec<Vec<&Import>> {
        let mut by_file: ByFile<'_> = BTreeMap::new();
        for import in self.iter().filter(|import| !import.is_reexport) {
            by_file.entry(&import.file).or_default().push(import);
        }
        let mut shown = BTreeSet::new();
        let mut cycles = Vec::new();
        for cycle in by_file.keys().filter_map(|file| cycle_through(file, &by_file)) {
            let pairs: Vec<_> = cycle
                .iter()
                .map(|import| (&import.file, &import.defined_in))
                .collect();
            if !pairs.iter().any(|pair| shown.contains(pair)) {
                shown.extend(pairs);
                cycles.push(cycle);
            }
        }
        cycles
    }
}

type ByFile<'a> = BTreeMap<&'a str, Vec<&'a Import>>;

/// The shortest cycle of imports through a file.
fn cycle_through<'a>(file: &str, by_file: &ByFile<'a>) -> Option<Vec<&'a Import>> {
    let mut reached_by: BTreeMap<&str, &Import> = BTreeMap::new();
    let mut queue = VecDeque::from([file]);
    while let Some(from) = queue.pop_front() {
        for import in by_file.get(from).into_iter().flatten().copied() {
            reached_by.entry(&import.defined_in).or_insert_with(|| {
                queue.push_back(&import.defined_in);
                import
            });
        }
    }
    let mut cycle = vec![*reached_by.get(file)?];
    while cycle[cycle.len() - 1].file != file {
        cycle.push(reached_by[cycle[cycle.len() - 1].file.as_str()]);
    }
    cycle.reverse();
    Some(cycle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports<const N: usize>(files: [(&str, &str); N]) -> Imports {
        Imports::of(&Sources::from(files), "sample").unwrap()
    }

    fn cycles<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        let imports = imports(files);
        imports
            .cycles()
            .concat()
            .iter()
            .map(|import| import.to_string())
            .collect()
    }

    fn lines<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        imports(files).iter().map(|import| import.to_string()).collect()
    }

    #[test]
    fn a_cycle_is_reported_with_its_files_and_lines() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use std::fmt;\nuse crate::{b::{self, B}, d::D};"),
            ("b.rs", "fn f() {\n\n super::c::g() }"),
            ("c.rs", "use crate::a::A;"),
            ("d.rs", "struct D;"),
        ];
        assert_eq!(
            cycles(files),
            [
                "a.rs:2 imports b.rs (crate::b)",
                "b.rs:3 imports c.rs (super::c::g)",
                "c.rs:1 imports a.rs (crate::a::A)",
            ]
        );
    }

    #[test]
    fn two_cycles_are_reported_separately_and_a_chain_is_no_cycle() {
        let root = ("lib.rs", "mod a; mod b; mod c; mod d;");
        let (a, b) = (("a.rs", "use crate::b::B;"), ("b.rs", "use super::a::A;"));
        let two = imports([
            root,
            a,
            b,
            ("c.rs", "use crate::d::D;"),
            ("d.rs", "use crate::c::C;"),
        ]);
        assert_eq!(two.cycles().len(), 2);
        let ladder = [
            root,
            a,
            ("b.rs", "use crate::{c::C, d::D};"),
            ("c.rs", "use crate::d::D;"),
            ("d.rs", ""),
        ];
        assert!(cycles(ladder).is_empty());
    }

    #[test]
    fn one_wrong_import_is_one_cycle() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::{b::B, c::C};"),
            ("b.rs", "use crate::d::D;"),
            ("c.rs", "use crate::d::D;"),
            ("d.rs", "use crate::a::A;"),
        ];
        assert_eq!(imports(files).cycles().len(), 1);
    }

    #[test]
    fn a_parent_and_its_child_can_form_a_cycle() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a.rs", "mod b;\nuse b::B;\npub struct A;"),
            ("a/b.rs", "use super::A;"),
        ];
        assert_eq!(
            cycles(files),
            ["a.rs:2 imports a/b.rs (b::B)", "a/b.rs:1 imports a.rs (super::A)"]
        );
    }

    #[test]
    fn a_reexported_name_is_imported_from_the_file_that_defines_it() {
        let files = [
            ("lib.rs", "mod a; mod c;"),
            (
                "a.rs",
                "mod b; mod d;\npub(crate) use self::{b::B as Other, d::*};\npub struct A;",
            ),
            ("a/b.rs", "use super::{A, D}; pub struct B;"),
            ("a/d.rs", "pub struct D;"),
            ("c.rs", "use crate::a::{D,\n Other};"),
        ];
        assert!(cycles(files).is_empty());
        let imports = lines(files);
        assert!(imports.contains(&"a/b.rs:1 imports a/d.rs (super::D)".to_owned()));
        assert!(imports.contains(&"c.rs:1 imports a/d.rs (crate::a::D)".to_owned()));
        assert!(imports.contains(&"c.rs:2 imports a/b.rs (crate::a::Other)".to_owned()));
    }

    #[test]
    fn a_file_that_reexports_a_name_and_uses_it_imports_it() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a.rs", "mod b; pub use b::B; pub struct A;\nfn f(_: B) {}"),
            ("a/b.rs", "use super::A; pub struct B;"),
        ];
        assert_eq!(cycles(files).len(), 2);
    }

    #[test]
    fn a_path_through_an_imported_module_leads_to_the_file_of_its_target() {
        let files = [
            ("lib.rs", "mod a; mod c;"),
            ("a.rs", "pub mod b;"),
            ("a/b.rs", ""),
            ("c.rs", "use crate::a;\nfn f() { a::b::g() }"),
        ];
        assert_eq!(
            lines(files),
            [
                "c.rs:1 imports a.rs (crate::a)",
                "c.rs:2 imports a/b.rs (a::b::g)"
            ]
        );
    }

    #[test]
    fn tests_comments_strings_and_other_crates_are_not_imports() {
        let files = [
            ("lib.rs", "mod a; mod b; #[cfg(test)] mod t;"),
            (
                "a.rs",
                "//! crate::b::B\nuse b_crate::B; \"crate::b\"; #[cfg(test)] mod tests { use crate::b::B; }",
            ),
            ("b.rs", "#[cfg(test)] use crate::a::A; pub(in crate::a) struct B;"),
            ("t.rs", "use crate::a::A;"),
        ];
        assert!(lines(files).is_empty());
    }

    #[test]
    fn the_binary_imports_the_library_by_name_and_an_inline_module_imports_its_own_file() {
        let files = [
            ("lib.rs", "pub mod a;"),
            ("main.rs", "use sample::a::A;"),
            ("a.rs", "pub mod inner { use super::X; use super::super::Y; }"),
        ];
        assert_eq!(
            lines(files),
            [
                "a.rs:1 imports lib.rs (super::super::Y)",
                "main.rs:1 imports a.rs (sample::a::A)"
            ]
        );
    }

    #[test]
    fn a_module_without_a_file_and_a_crate_without_a_root_are_errors() {
        let of = |sources| Imports::of(&sources, "sample").unwrap_err().to_string();
        assert_eq!(
            of(Sources::from([("lib.rs", "mod a;")])),
            "lib.rs declares a module, but there is no a.rs"
        );
        assert_eq!(
            of(Sources::from([("a.rs", "")])),
            "no lib.rs and no main.rs of sample"
        );
    }
}
