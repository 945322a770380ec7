//! The images of the lab's engine. They are built once, kept in the cache, and rebuilt when their sources change.
//!
//! Building them needs the Debian and Python package servers that this machine is configured for. Nothing else in the lab
//! needs the internet.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::engine::Engine;
use super::{place, tools};

/// The prefix of the names of all images of the lab.
pub const REPOSITORY: &str = "jq-lab/";

/// Debian with Python, without Jupyter.
pub const NO_JUPYTER: &str = "jq-lab/nojupyter";
/// Debian with JupyterLab, Matplotlib and NumPy on PATH. Runs as root and has no entry point.
pub const JUPYTER: &str = "jq-lab/jupyter";
/// Like Jupyter's docker-stacks images: user jovyan, `NB_UID`, an entry point that switches to the user.
pub const STACKS: &str = "jq-lab/stacks";
/// One static program that echoes on 127.0.0.1:7000 and 7001, and no shell.
pub const STATIC: &str = "jq-lab/static";

const KEY_LABEL: &str = "jq-lab.key";

/// The sources of an image. `build.sh` builds it from the other files.
struct Recipe {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
}

macro_rules! recipe {
    ($name:expr, $dir:literal, [$($file:literal),*]) => {
        Recipe {
            name: $name,
            files: &[$(($file, include_str!(concat!("../../images/", $dir, "/", $file)))),*],
        }
    };
}

/// Each image comes after the image that it is based on, and is rebuilt when that image changes.
const RECIPES: [Recipe; 4] = [
    recipe!(STATIC, "static", ["build.sh", "echo.rs"]),
    recipe!(NO_JUPYTER, "nojupyter", ["build.sh"]),
    recipe!(JUPYTER, "jupyter", ["build.sh", "Dockerfile"]),
    recipe!(STACKS, "stacks", ["build.sh", "Dockerfile", "start.sh"]),
];

/// Builds the images that the engine lacks or whose sources have changed.
pub(crate) fn build_missing(engine: &Engine) -> Result<()> {
    let mut parents = String::new();
    for recipe in &RECIPES {
        let key = recipe.key(&parents);
        if recipe.name != STATIC {
            parents.clone_from(&key);
        }
        if built_from(engine, recipe.name).as_ref() != Some(&key) {
            recipe.build(engine, &key)?;
        }
    }
    Ok(())
}

fn built_from(engine: &Engine, name: &str) -> Option<String> {
    let format = format!("{{{{index .Config.Labels {KEY_LABEL:?}}}}}");
    engine
        .docker(["image", "inspect", "--format", &format, name])
        .ok()
        .map(|key| key.trim().to_owned())
}

impl Recipe {
    fn key(&self, parents: &str) -> String {
        let mut hash = Sha256::new();
        let parts = self.files.iter().flat_map(|(name, content)| [*name, *content]);
        for part in parts.chain([parents]) {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hash.finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    #[expect(
        clippy::print_stderr,
        reason = "minutes without output would look like a hang"
    )]
    fn build(&self, engine: &Engine, key: &str) -> Result<()> {
        let log = place::cache().join(format!("{}.log", self.name.replace('/', "-")));
        eprintln!("building the image {} (once; see {})", self.name, log.display());
        // Not in /tmp, which may be small or mounted `nodev`.
        let dir = tempfile::tempdir_in(place::cache()).context("no directory to build in")?;
        for (name, content) in self.files {
            fs::write(dir.path().join(name), content).with_context(|| format!("cannot write {name}"))?;
        }
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = tools::command("sh", ["build.sh"]);
        command
            .current_dir(dir.path())
            .env("IMAGE", self.name)
            .env("KEY", key);
        command
            .env("DOCKER_HOST", format!("unix://{}", engine.socket().display()))
            .env("DOCKER_BUILDKIT", "0");
        command
            .stdin(Stdio::null())
            .stderr(output.try_clone().context("cannot share the log")?)
            .stdout(output);
        let status = command.status().context("cannot start sh")?;
        if !status.success() {
            bail!(
                "building {} failed ({status}); the log ends with:\n{}",
                self.name,
                end_of(&log)
            );
        }
        Ok(())
    }
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
