//! Converts an image of the engine to the files that a registry serves.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::lab::{Lab, tools};

/// An entry of the `manifest.json` that `docker save` writes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Saved {
    pub(super) config: PathBuf,
    pub(super) layers: Vec<PathBuf>,
}

/// Unpacks an image of the engine into `dir`. Returns its parts and its configuration.
pub(super) fn save(lab: &Lab, image: &str, dir: &Path) -> Result<(Saved, Value)> {
    let archive = dir.join("saved.tar");
    let (archive, into) = (archive.to_string_lossy(), dir.to_string_lossy());
    lab.docker(["save", "--output", &archive, image])?;
    tools::run("tar", ["--extract", "--file", &archive, "--directory", &into])?;
    let listed = fs::read(dir.join("manifest.json")).context("docker save wrote no manifest")?;
    let mut listed: Vec<Saved> = serde_json::from_slice(&listed)?;
    ensure!(listed.len() == 1, "{image} is {} images", listed.len());
    let saved = listed.remove(0);
    let config = fs::read(dir.join(&saved.config)).context("docker save wrote no configuration")?;
    Ok((saved, serde_json::from_slice(&config)?))
}

/// A layer with one file of random, incompressible bytes.
pub(super) fn random_layer(dir: &Path, size: usize) -> Result<PathBuf> {
    let mut bytes = vec![0; size];
    getrandom::fill(&mut bytes).context("no random numbers")?;
    fs::write(dir.join("random"), bytes).context("cannot write random bytes")?;
    let layer = dir.join("random.tar");
    let (file, from) = (layer.to_string_lossy(), dir.to_string_lossy());
    tools::run(
        "tar",
        ["--create", "--file", &file, "--directory", &from, "random"],
    )?;
    Ok(layer)
}

pub(super) fn compress(from: &Path, to: &Path) -> Result<()> {
    let status = tools::command("gzip", ["--no-name", "--fast"])
        .stdin(File::open(from).with_context(|| format!("cannot read {}", from.display()))?)
        .stdout(File::create(to).with_context(|| format!("cannot write {}", to.display()))?)
        .status()
        .context("cannot start gzip")?;
    ensure!(status.success(), "gzip failed ({status}) with {}", from.display());
    Ok(())
}
