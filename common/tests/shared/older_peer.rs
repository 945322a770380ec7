//! Programs of a version before this one: the same sources with the feature `older-peer`, which takes a message and a
//! capability away. Part of the integration tests of agent and client.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The program `name` (`jq-agent`, `jq-client`) as an older version, built first where that has not happened yet.
pub(crate) fn older(name: &str) -> PathBuf {
    let features = ["--features", "jq-agent/older-peer,jq-client/older-peer"];
    built(name, "older-peer", &features)
}

/// The program `name` as this version, built first where that has not happened yet.
#[allow(dead_code, reason = "cargo tells a test of its own package's programs only")]
pub(crate) fn newer(name: &str) -> PathBuf {
    built(name, "newer-peer", &[])
}

/// Builds both programs in the profile of this test, and returns `name`. What they are made of lies where everything does,
/// and is chosen as `deploy/test` chooses it, so that no dependency is compiled a second time there (to name a test chooses
/// the tests' features); the programs themselves get a folder of their own.
fn built(name: &str, folder: &str, flags: &[&str]) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("tmp lies in it");
    let test = std::env::current_exe().expect("a test has a program");
    let profile_folder = test
        .strip_prefix(target)
        .ok()
        .and_then(|path| path.iter().next())
        .and_then(|name| name.to_str())
        .expect("a test lies in its profile's folder");
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
        .expect("cargo is there");
    assert!(
        built.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&built.stderr)
    );
    programs.join(profile_folder).join(name)
}
