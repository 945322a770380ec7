//! The images of the lab's engine. They are built once, kept in the cache, and rebuilt when their sources change.
//!
//! Building them needs the Debian and Python package servers that this machine is configured for. Nothing else in the lab
//! needs the internet.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use super::engine::Engine;
use super::generation::Family;
use super::{hash, place, tools};

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

/// The images that engines of other generations have.
const SAVED: [&str; 2] = [JUPYTER, STATIC];

/// Builds the images that the engine lacks or whose sources have changed.
pub(crate) fn build_missing(engine: &Engine) -> Result<()> {
    for (recipe, key) in keyed() {
        if built_from(engine, recipe.name).as_ref() != Some(&key) {
            recipe.build(engine, &key)?;
        }
    }
    Ok(())
}

/// Each recipe with its key, which depends on the recipes of the images that it is based on.
fn keyed() -> Vec<(&'static Recipe, String)> {
    let mut parents = String::new();
    let mut keyed = Vec::new();
    for recipe in &RECIPES {
        let key = recipe.key(&parents);
        if recipe.name != STATIC {
            parents.clone_from(&key);
        }
        keyed.push((recipe, key));
    }
    keyed
}

/// The images for other engines: name, key and archive.
fn archives() -> Vec<(&'static str, String, PathBuf)> {
    let wanted = keyed()
        .into_iter()
        .filter(|(recipe, _)| SAVED.contains(&recipe.name));
    let archive = |(recipe, key): (&'static Recipe, String)| {
        let file = format!("{}-{key}.tar", recipe.name.replace('/', "-"));
        (recipe.name, key, place::cache().join("images").join(file))
    };
    wanted.map(archive).collect()
}

/// Whether the archives for other engines are complete.
pub(crate) fn are_saved() -> bool {
    archives().iter().all(|(.., archive)| archive.exists())
}

/// Saves the images for other engines, in place of older archives.
pub(crate) fn save(engine: &Engine) -> Result<()> {
    let dir = place::cache().join("images");
    if dir.exists() {
        fs::remove_dir_all(&dir).context("cannot remove older archives")?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (name, _, archive) in archives() {
        // An archive with its final name is complete.
        let draft = archive.with_extension("new");
        engine.docker(["save", "--output", &draft.to_string_lossy(), name])?;
        fs::rename(&draft, &archive).with_context(|| format!("cannot put {} in place", archive.display()))?;
    }
    Ok(())
}

/// Loads the images that an engine of another generation lacks or whose sources have changed.
pub(crate) fn load_missing(engine: &Engine) -> Result<()> {
    for (name, key, archive) in archives() {
        if built_from(engine, name).as_ref() == Some(&key) {
            continue;
        }
        engine.docker(["load", "--input", &archive.to_string_lossy()])?;
        if engine.generation().family() == Family::Podman {
            // Podman takes images without a registry as local ones, and its Docker API looks for them in Docker's.
            engine.docker(["tag", name, &format!("docker.io/{name}")])?;
        }
    }
    Ok(())
}

/// Whether an image of this name belongs to the cache and not to a lab.
pub(crate) fn is_ours(name: &str) -> bool {
    // Podman's names have a registry.
    let short = ["docker.io/", "localhost/"]
        .iter()
        .find_map(|registry| name.strip_prefix(registry));
    short.unwrap_or(name).starts_with(REPOSITORY)
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
        let parts = self.files.iter().flat_map(|(name, content)| [*name, *content]);
        hash::short(parts.chain([parents]))
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
