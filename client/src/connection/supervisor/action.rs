//! What the supervisor asks for.

use std::time::Duration;

use super::event::ConnectionId;
use crate::{
    connection::{bootstrap::Interaction, paths::Rank},
    status::Loss,
};

/// Which paths a search tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All that are known, each again and again until one works.
    Any,
    /// Those that are better than this one, now and then.
    BetterThan(Rank),
}

/// Why the session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// Another process of the same client has taken the session.
    Superseded,
    /// The agent that ssh told of speaks another version, as this path says.
    VersionDiffers(String),
}

/// Something to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Search after a pause. Ends with [`Searched`](super::Event::Searched); none is under way.
    Search(Scope, Duration),
    /// Stop the search that is under way.
    StopSearch,
    /// Reach the agent over ssh. Ends with [`Bootstrapped`](super::Event::Bootstrapped) or
    /// [`BootstrapFailed`](super::Event::BootstrapFailed); none is under way.
    Bootstrap(Interaction),
    /// Stop the bootstrap that is under way, and its ssh.
    StopBootstrap,
    /// After a pause, connect over the ssh channel of the last bootstrap. Ends with
    /// [`PipeTried`](super::Event::PipeTried); no such attempt is under way.
    TryPipe(Duration),
    /// Stop the attempt over the ssh channel that is under way, and its ssh.
    StopPipe,
    /// Move all streams to this connection, which was just found. Answered at once by
    /// [`Installed`](super::Event::Installed) or [`NotInstalled`](super::Event::NotInstalled).
    Install(ConnectionId),
    /// Let a connection go that carries the session no more: close it, if it may still work.
    Close(ConnectionId),
    /// Reset all streams that the agent may know. Answered at once by [`StreamsReset`](super::Event::StreamsReset) if
    /// there were any.
    ResetStreams(Loss),
    /// Start the workload at the agent that carries the session now.
    RestartWorkload,
    /// Keep the paths to the agent for the next run.
    SaveTicket,
    /// Tell the user.
    Note(String),
    /// Take the steps of an attended bootstrap off the terminal: they will not be completed.
    DropSteps,
    /// End the session. Nothing follows.
    End(EndReason),
}
