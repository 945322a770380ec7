//! Why to look at the routes.

/// Why to look at the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Something changed, perhaps somewhere else.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "no other kernel is listened to")
    )]
    Heard,
    /// So much changed that not all could be heard.
    Missed,
    /// The last look was a while ago, or at other peers.
    Time,
}
