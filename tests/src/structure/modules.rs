//! The modules of a crate, and the file that defines what a path names.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::{
    path::{FileContent, Path, Use},
    sources::Sources,
    token::{tokens, without_tests},
};

/// A module's name: its segments, starting at the root file (`["lib", "session", "core"]`).
type Module = Vec<String>;

/// A file and its module.
#[derive(Debug)]
pub(super) struct File {
    /// Its path relative to the crate's source folder.
    pub(super) name: String,
    module: Module,
    pub(super) content: FileContent,
}

/// The target of a path in this crate.
#[derive(Clone)]
enum Target {
    Module(Module),
    /// An item that this module defines.
    ItemOf(Module),
}

/// What a name means in a module.
enum Named {
    Here(Target),
    OfAnotherCrate,
}

/// The maximum number of imports between a name and its definition. It ends the search if two imports refer to each other.
const MOST_IMPORTS: usize = 16;

/// The modules of a crate, without those that only tests use.
pub(super) struct Modules<'a> {
    crate_name: &'a str,
    pub(super) files: Vec<File>,
    /// The index of each module's file.
    file_of: BTreeMap<Module, usize>,
}

impl<'a> Modules<'a> {
    /// Reads the crate `crate_name`, starting with `lib.rs` and `main.rs`.
    pub(super) fn of(sources: &Sources, crate_name: &'a str) -> Result<Self> {
        let mut modules = Self {
            crate_name,
            files: Vec::new(),
            file_of: BTreeMap::new(),
        };
        for root in ["lib", "main"] {
            let name = format!("{root}.rs");
            if let Some(source) = sources.get(&name) {
                modules.add(sources, &name, source, vec![root.to_owned()])?;
            }
        }
        ensure!(
            !modules.files.is_empty(),
            "no lib.rs and no main.rs of {crate_name}"
        );
        Ok(modules)
    }

    /// Adds a file and the modules that it declares.
    fn add(&mut self, sources: &Sources, name: &str, source: &str, module: Module) -> Result<()> {
        let content = FileContent::of(&without_tests(&tokens(source)));
        let children: Vec<Module> = content
            .children
            .iter()
            .map(|child| join(&module, child))
            .collect();
        for inner in &content.inner_modules {
            self.file_of.insert(join(&module, inner), self.files.len());
        }
        self.file_of.insert(module.clone(), self.files.len());
        self.files.push(File {
            name: name.to_owned(),
            module,
            content,
        });
        for child in children {
            let file = format!("{}.rs", child[1..].join("/"));
            let source = sources
                .get(&file)
                .with_context(|| format!("{name} declares a module, but there is no {file}"))?;
            self.add(sources, &file, source, child)?;
        }
        Ok(())
    }

    /// The file that defines the target of `path`. None if it belongs to another crate or is unknown.
    pub(super) fn defined_in(&self, file: &File, path: &Path) -> Option<&str> {
        let module = join(&file.module, &path.inside);
        let (Target::Module(defined_in) | Target::ItemOf(defined_in)) =
            self.resolve(&module, &path.segments, MOST_IMPORTS)?;
        Some(&self.file(&defined_in)?.name)
    }

    /// Resolves a path that is written in `module`.
    fn resolve(&self, module: &[String], segments: &[String], imports: usize) -> Option<Target> {
        let (first, behind) = segments.split_first()?;
        let begin = match first.as_str() {
            "crate" => &module[..1],
            "self" => module,
            "super" => module.split_last()?.1,
            name if name == self.crate_name => return self.walk(&["lib".to_owned()], behind, imports),
            _ => {
                self.named(module, first, imports)?;
                return self.walk(module, segments, imports);
            }
        };
        let supers = behind.iter().take_while(|segment| *segment == "super").count();
        let begin = &begin[..begin.len().checked_sub(supers)?];
        self.walk(begin, &behind[supers..], imports)
    }

    /// Resolves a path from `module` downwards, through the imports of its modules.
    fn walk(&self, module: &[String], segments: &[String], imports: usize) -> Option<Target> {
        let Some((first, behind)) = segments.split_first().filter(|(first, _)| *first != "*") else {
            return Some(Target::Module(module.to_vec()));
        };
        match self.named(module, first, imports) {
            Some(Named::Here(Target::Module(inner))) => self.walk(&inner, behind, imports),
            Some(Named::Here(item)) => Some(item),
            Some(Named::OfAnotherCrate) => None,
            None => Some(Target::ItemOf(module.to_vec())),
        }
    }

    /// A submodule of `module`, or a name that `module` imports. None if it is neither.
    fn named(&self, module: &[String], name: &str, imports: usize) -> Option<Named> {
        let inner = join(module, &[name.to_owned()]);
        if self.file_of.contains_key(&inner) {
            return Some(Named::Here(Target::Module(inner)));
        }
        let left = imports.checked_sub(1)?;
        if let Some(found) = self.uses_in(module).find(|found| found.name == name) {
            let target = self.resolve(module, &found.path.segments, left);
            return Some(target.map_or(Named::OfAnotherCrate, Named::Here));
        }
        self.uses_in(module)
            .filter(|found| found.name == "*")
            .filter_map(|found| self.resolve(module, &found.path.segments, left))
            .find_map(|target| self.item_of(&target, name))
            .map(Named::Here)
    }

    /// The item `name` of a module that is imported with `*`.
    fn item_of(&self, everything_of: &Target, name: &str) -> Option<Target> {
        let Target::Module(module) = everything_of else {
            return None;
        };
        let items = &self.file(module)?.content.items;
        items.contains(name).then(|| Target::ItemOf(module.clone()))
    }

    fn uses_in(&self, module: &[String]) -> impl Iterator<Item = &Use> {
        let file = self.file(module);
        file.into_iter().flat_map(move |file| {
            let inside = &module[file.module.len()..];
            file.content
                .uses
                .iter()
                .filter(move |found| found.path.inside == inside)
        })
    }

    fn file(&self, module: &[String]) -> Option<&File> {
        Some(&self.files[*self.file_of.get(module)?])
    }
}

fn join(outer: &[String], inner: &[String]) -> Module {
    [outer, inner].concat()
}
