//! Finds where sources name a crate, start a process, or define a type.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{
    modules::Modules,
    path::{FileContent, Path},
    sources::Sources,
    token::{Kind, tokens},
};

/// The places where code, including tests, names one of these crates or a related one (`tokio_util`): file, line and
/// word.
pub fn crates_named(sources: &Sources, crates: &[&str]) -> Vec<(String, usize, String)> {
    let mut places = Vec::new();
    for (file, source) in sources.iter() {
        let words = tokens(source)
            .into_iter()
            .filter(|token| token.kind == Kind::Word);
        for word in words.filter(|word| is_of_family(word.text, crates)) {
            places.push((file.to_owned(), word.line, word.text.to_owned()));
        }
    }
    places
}

/// The words of a manifest that name one of these crates or a related one. Comments are ignored.
pub fn crates_in_manifest(manifest: &str, crates: &[&str]) -> Vec<String> {
    let code = manifest
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_'))
        .filter(|word| is_of_family(word, crates))
        .map(str::to_owned)
        .collect()
}

fn is_of_family(word: &str, crates: &[&str]) -> bool {
    let first = word.split(['_', '-']).next();
    first.is_some_and(|first| crates.contains(&first))
}

/// The places where a crate, without its tests, can start a process: file, line and path.
///
/// # Errors
/// As [`Imports::of`](super::Imports::of).
pub fn processes_started(sources: &Sources, crate_name: &str) -> Result<Vec<(String, usize, String)>> {
    let mut places = Vec::new();
    for file in &Modules::of(sources, crate_name)?.files {
        let imported = file.content.uses.iter().map(|found| &found.path);
        for path in imported
            .chain(&file.content.code)
            .filter(|path| starts_processes(path))
        {
            places.push((file.name.clone(), path.line, path.segments.join("::")));
        }
    }
    Ok(places)
}

fn starts_processes(path: &Path) -> bool {
    let segments: Vec<_> = path.segments.iter().map(String::as_str).collect();
    let has = |part: &[&str]| segments.windows(part.len()).any(|window| window == part);
    has(&["process", "Command"])
        || has(&["process", "*"])
        || has(&["Command", "new"])
        || has(&["tokio", "process"])
}

/// The types, traits and functions that the files define.
pub fn defined(sources: &Sources) -> BTreeSet<String> {
    let files = sources.iter();
    files
        .flat_map(|(_, source)| FileContent::of(&tokens(source)).items)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_name_is_found_in_code_but_not_in_comments_and_strings() {
        let sources = Sources::from([(
            "a.rs",
            "// tokio\nuse std::fmt;\nuse tokio_util::x; \"tokio\"; tokios",
        )]);
        assert_eq!(
            crates_named(&sources, &["tokio"]),
            [("a.rs".to_owned(), 3, "tokio_util".to_owned())]
        );
        assert_eq!(
            crates_in_manifest(
                "# tokio\n[dependencies]\nquinn-proto.workspace = true # quinn\n",
                &["tokio", "quinn"]
            ),
            ["quinn-proto"]
        );
    }

    #[test]
    fn the_start_of_a_process_is_found_under_any_name_but_not_in_tests() {
        let code = "use std::process::{self, ExitCode};\nuse std::{process::Command as C};\n\
                    fn f() { process::Command::new(x) }\nuse tokio::process;\nuse std::process::*;\n\
                    #[cfg(test)] mod tests;";
        let sources = Sources::from([("lib.rs", code), ("tests.rs", "use std::process::Command;")]);
        let lines: Vec<_> = processes_started(&sources, "sample")
            .unwrap()
            .into_iter()
            .map(|(_, line, _)| line)
            .collect();
        assert_eq!(lines, [2, 4, 5, 3], "imports, then code");
    }

    #[test]
    fn types_traits_and_functions_are_found_where_they_are_defined() {
        let sources = Sources::from([("a.rs", "pub(crate) trait A { fn b(); } use c::D;")]);
        assert_eq!(defined(&sources), ["A", "b"].map(str::to_owned).into());
    }
}
