//! The patches in `tests/mutants`, each of which takes one defence out: read, and compared with the sources as they are.
//! `deploy/mutants` applies them.

mod mutant;
mod named_test;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

pub use mutant::Mutant;

/// Reads all patches.
///
/// # Errors
/// The folder or a patch cannot be read.
pub fn read(root: &Path) -> Result<Vec<Mutant>> {
    let folder = root.join("tests/mutants");
    let mut mutants = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&path).with_context(|| name.clone())?;
        mutants.push(Mutant::parse(&name, &text).with_context(|| name)?);
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}
