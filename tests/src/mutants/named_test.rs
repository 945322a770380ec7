//! A test by its name, and the source that it stands in.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// The packages of the workspace, and their folders.
const PACKAGES: [(&str, &str); 5] = [
    ("jq-common", "common"),
    ("jq-session-core", "common/session-core"),
    ("jq-agent", "agent"),
    ("jq-client", "client"),
    ("jq-tests", "tests"),
];

/// A test, as nextest names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedTest {
    /// The folder of the package.
    folder: &'static str,
    /// A binary of integration tests; none for the tests of the library.
    binary: Option<String>,
    modules: Vec<String>,
    function: String,
}

impl NamedTest {
    /// Reads `PACKAGE[::BINARY] MODULE::…::FUNCTION`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (binary, name) = text.split_once(' ').context("it names no test")?;
        let (package, binary) = match binary.split_once("::") {
            Some((package, binary)) => (package, Some(binary.to_owned())),
            None => (binary, None),
        };
        let (_, folder) = PACKAGES
            .into_iter()
            .find(|(known, _)| *known == package)
            .with_context(|| format!("there is no package {package}"))?;
        let mut modules: Vec<_> = name.split("::").map(str::to_owned).collect();
        let function = modules.pop().unwrap_or_default();
        Ok(Self {
            folder,
            binary,
            modules,
            function,
        })
    }

    /// Why there is no such test below `root`; none if there is.
    pub(super) fn fault(&self, root: &Path) -> Option<String> {
        let is_there = (0..=self.modules.len()).any(|files| {
            let (file, inner) = self.modules.split_at(files);
            self.candidates(file).iter().any(|path| {
                fs::read_to_string(root.join(path)).is_ok_and(|text| self.stands_in(&text, inner))
            })
        });
        let name = [&self.modules[..], std::slice::from_ref(&self.function)]
            .concat()
            .join("::");
        (!is_there).then(|| format!("{} has no test {name}", self.folder))
    }

    /// Where the module of these names may be written.
    fn candidates(&self, file: &[String]) -> Vec<String> {
        let folder = match &self.binary {
            None => format!("{}/src", self.folder),
            // jq-tests has its tests in `it`, named in its manifest.
            Some(binary) if self.folder == "tests" => format!("tests/{binary}"),
            Some(binary) => format!("{}/tests/{binary}", self.folder),
        };
        match file {
            [] => vec![format!("{folder}/lib.rs"), format!("{folder}/main.rs")],
            _ => vec![format!("{folder}/{}.rs", file.join("/"))],
        }
    }

    fn stands_in(&self, text: &str, inner: &[String]) -> bool {
        inner
            .iter()
            .all(|module| text.contains(&format!("mod {module} {{")))
            && text.contains(&format!("fn {}(", self.function))
    }
}
