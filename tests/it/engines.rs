//! One engine of each family and of an old generation; `deploy/engines` has the others.

use anyhow::{Context as _, Result};
use jq_tests::{
    engines::{self, Row},
    lab::Generation,
    require,
};

fn hold(generation: Generation) -> Result<()> {
    let found = Row::ALL.iter().find(|row| row.generation == generation);
    engines::hold(found.context("no such row")?)
}

#[test]
fn docker_20_10_does_everything_that_an_engine_must() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    hold(Generation::Docker20)
}

#[test]
fn podman_4_3_does_everything_that_an_engine_must_and_says_that_it_cannot_pass_gpus() -> Result<()> {
    if !require::podman() {
        return Ok(());
    }
    hold(Generation::Podman4)
}
