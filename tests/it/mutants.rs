//! Each patch that switches a defence off still fits the sources, and names a test that is there. Whether the test notices is
//! what `deploy/mutants` finds out. Needs no root.

use std::path::Path;

use anyhow::{Result, ensure};
use jq_tests::mutants;

#[test]
fn every_patch_fits_the_sources_and_names_a_test_that_is_there() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mutants = mutants::read(&root)?;
    ensure!(mutants.len() > 20, "this test looks in the wrong folder");
    let faults: Vec<_> = mutants
        .iter()
        .filter_map(|mutant| Some(format!("{}: {}", mutant.name, mutant.fault(&root)?)))
        .collect();
    ensure!(
        faults.is_empty(),
        "patches to be mended or removed:\n{}",
        faults.join("\n")
    );
    Ok(())
}
