//! Reasons to check the routes.

/// A reason to check the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The kernel reported a change, perhaps of an unrelated route.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only Linux reports changes")
    )]
    Heard,
    /// The kernel dropped reports because there were too many.
    Missed,
    /// The interval has passed, or the peers have changed.
    Time,
}
