//! Builds programs of a simulated previous version: the same sources with the feature `older-peer`, which removes one
//! message and one capability. Part of the integration tests of agent and client.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The program `name` (`jq-agent`, `jq-client`) of the older version. Builds it first if necessary.
pub(crate) fn older(name: &str) -> PathBuf {
    let features = ["--features", "jq-agent/older-peer,jq-client/older-peer"];
    built(name, "older-peer", &features)
}

/// The program `name` of this version. Builds it first if necessary.
#[allow(dead_code, reason = "cargo gives a test only the programs of its own package")]
pub(crate) fn newer(name: &str) -> PathBuf {
    built(name, "newer-peer", &[])
}

/// Builds both programs in the profile of this test, and returns `name`. Uses the target directory, flags and features of
/// `deploy/test`, so that no dependency is compiled a second time (naming a test enables the features of tests). The
/// programs themselves are put into a separate folder.
fn built(name: &str, folder: &str, flags: &[&str]) -> PathBuf {
    let folder_of_tests = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .canonicalize()
        .expect("cargo has created it");
    let target = folder_of_tests
        .parent()
        .expect("the target directory contains tmp");
    let test = std::env::current_exe().expect("the test's own path is unknown");
    let profile_folder = test
        .strip_prefix(target)
        .ok()
        .and_then(|path| path.iter().next())
        .and_then(|name| name.to_str())
        .expect("the test is not in its profile's folder");
    let profile = match profile_folder {
        "debug" => "dev",
        other => other,
    };
    let programs = target.join(folder);
    let built = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--locked", "--offline", "--profile", profile])
        .args([
            "--workspace",
            "--bin",
            "jq-agent",
            "--bin",
            "jq-client",
            "--test",
            "pairing",
        ])
        .args(flags)
        .arg("--target-dir")
        .arg(&programs)
        .env("CARGO_BUILD_BUILD_DIR", target)
        .output()
        .expect("cargo cannot be started");
    assert!(
        built.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&built.stderr)
    );
    programs.join(profile_folder).join(name)
}
