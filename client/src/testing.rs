//! What tests of this crate share.

/// Says that a test does not run on this machine.
///
/// # Panics
/// Where `CI` is `true`: there nothing may be missing.
#[expect(clippy::print_stderr, reason = "a test that does not run must say so")]
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
