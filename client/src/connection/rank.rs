//! Kinds of path to the agent.

/// Kind of path, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Direct UDP.
    Direct,
    /// UDP through relays.
    Relay,
    /// Over an ssh channel.
    Ssh,
}
