//! Tests that this machine cannot run. Part of the unit tests of common, agent and client.

/// Reports that a test is skipped on this machine, because of `why`.
///
/// # Panics
/// In CI (`CI=true`), where no test may be skipped.
#[expect(clippy::print_stderr, reason = "a skipped test must be visible")]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's switch, not a setting of the client's"
)]
pub(crate) fn not_run(why: &str) {
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "cannot run in CI: {why}"
    );
    eprintln!("NOT RUN: {why}");
}
