//! What is reported to the supervisor.

use std::{collections::BTreeSet, time::Duration};

use crate::{connection::rank::Rank, error::Failure, status::Loss};

/// Identifies one of the connections that this process makes. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// Ranks of the known UDP paths to the agent.
pub(crate) type Paths = BTreeSet<Rank>;

/// A connection to which the agent has attached the session. It carries nothing before it is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its identifier.
    pub(crate) id: ConnectionId,
    /// Rank of its path.
    pub(crate) rank: Rank,
}

/// Why an attempt over the ssh channel failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PipeFailure {
    /// The path and the error, if the agent speaks another protocol version.
    pub(crate) version: Option<String>,
}

/// Why a connection no longer carries the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DetachReason {
    /// The agent has attached the session to another connection of this client.
    Fenced,
    /// Another process of the same client has taken the session over.
    Superseded,
    /// The agent is shutting down.
    AgentEnding,
    /// The agent has discarded the session.
    GivenUp,
    /// A stateless reset: the agent's process is gone, and the process that has its address does not know the connection.
    Reset,
    /// The agent is being replaced in place, or the connection was lost.
    Lost,
}

/// Effect of a new connection on the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// All streams continue.
    Kept,
    /// The agent does not know the session: its streams were reset.
    Broken(Loss),
}

/// Something that happened. Events about a connection that does not carry the session are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A connection no longer carries the session.
    Detached(ConnectionId, DetachReason),
    /// The peer has been silent for too long.
    Silent(ConnectionId),
    /// The peer is heard again.
    Heard(ConnectionId),
    /// The path is reported dead. Over UDP anybody can forge that.
    Gone(ConnectionId),
    /// The search has ended. None: every path was refused. Why is not told, because anybody on a UDP path can forge a
    /// refusal, a version mismatch among others.
    Searched(Option<Candidate>),
    /// The attempt over the ssh channel has ended. What the other end says was authenticated by ssh.
    PipeTried(Result<Candidate, PipeFailure>),
    /// [`Install`](super::Action::Install) was carried out.
    Installed(Candidate, Continuity),
    /// The connection was not installed, because a newer one carries the session.
    NotInstalled,
    /// [`ResetStreams`](super::Action::ResetStreams) has reset open streams.
    StreamsReset(Loss),
    /// The agent was reached over ssh.
    Bootstrapped {
        /// The UDP paths that are known now.
        paths: Paths,
        /// Whether the ssh channel can be used as a path.
        has_pipe: bool,
    },
    /// The agent was not reached over ssh.
    BootstrapFailed(Failure),
    /// The user pressed Enter.
    UserAsked,
    /// This machine resumed from suspend, or this process continued after it was stopped or got no CPU.
    Woke {
        /// How long the machine was suspended; zero if only this process stood still.
        suspended: Duration,
    },
    /// The source address for a peer changed, or the route to it was lost or restored.
    NetworkChanged,
    /// Another process queried the status, perhaps every second.
    StatusAsked,
    /// The time of [`Supervisor::deadline`](super::Supervisor::deadline) has come.
    Deadline,
}
