//! What the supervisor is told.

use std::collections::BTreeSet;

use crate::{connection::paths::Rank, error::Failure, status::Loss};

/// One connection among those that this process makes. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// The kinds of UDP path to the agent that are known.
pub(crate) type Paths = BTreeSet<Rank>;

/// A connection on which the agent carries the session from now on. Nothing goes over it before it is installed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Which connection.
    pub(crate) id: ConnectionId,
    /// The path that it takes.
    pub(crate) rank: Rank,
}

/// Why nothing was found where whoever answers will never take this client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The path and the error, where the other end speaks another version.
    pub(crate) version: Option<String>,
}

/// Why a connection carries the session no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DetachReason {
    /// The agent carries the session by another connection of this client.
    Fenced,
    /// Another process of the same client has taken the session.
    Superseded,
    /// The agent is ending, and its sessions with it.
    AgentEnding,
    /// The agent has given the session up.
    GivenUp,
    /// The agent's process is gone; whoever has its address now does not know the connection.
    Reset,
    /// The agent is being replaced in place, or the connection was lost.
    Lost,
}

/// What a new connection means for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// All streams go on.
    Kept,
    /// The agent does not know the session: its streams were reset.
    Broken(Loss),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The connection carries the session no more.
    Detached(ConnectionId, DetachReason),
    /// An answer on the connection has been due for too long.
    Silent(ConnectionId),
    /// A connection that was silent is heard again.
    Heard(ConnectionId),
    /// The host or the ssh channel says that the connection's path leads nowhere. By UDP anybody may say so.
    Gone(ConnectionId),
    /// The search ended.
    Searched(Result<Candidate, Refusal>),
    /// The attempt to connect over the ssh channel ended.
    PipeTried(Result<Candidate, Refusal>),
    /// [`Install`](super::Action::Install) was carried out.
    Installed(Candidate, Continuity),
    /// The connection was not installed, because a newer one carries the session.
    NotInstalled,
    /// [`ResetStreams`](super::Action::ResetStreams) has reset streams that were open.
    StreamsReset(Loss),
    /// The agent was reached over ssh.
    Bootstrapped {
        /// The paths to it that are known now.
        paths: Paths,
        /// Whether the ssh channel is one more.
        has_pipe: bool,
    },
    /// The agent was not reached over ssh.
    BootstrapFailed(Failure),
    /// The user pressed Enter.
    UserAsked,
    /// This machine, or this process, stood still and goes on.
    Woke,
    /// This machine reaches its peers from another address, or lost its route.
    NetworkChanged,
    /// Another process asked how the session is: its user wants it back, but may ask every second.
    StatusAsked,
    /// The moment has come that [`Supervisor::deadline`](super::Supervisor::deadline) named.
    Deadline,
}
