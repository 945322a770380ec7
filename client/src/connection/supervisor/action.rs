//! What the supervisor asks for.

use std::time::Duration;

use super::event::ConnectionId;
use crate::{
    connection::{interaction::Interaction, rank::Rank},
    status::Loss,
};

/// Why the session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// Another process of the same client has taken the session over.
    Superseded,
    /// The agent behind the ssh channel speaks another protocol version: the path and the error.
    VersionDiffers(String),
}

/// An action. Actions are carried out in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Wait this long, then try all known UDP paths until one works. Ends with [`Searched`](super::Event::Searched); no
    /// search is under way.
    Search(Duration),
    /// Try the UDP paths that are better than this rank, from time to time. Ends with [`Searched`](super::Event::Searched);
    /// no search is under way.
    Improve(Rank),
    /// Stop the search that is under way.
    StopSearch,
    /// Reach the agent over ssh. Ends with [`Bootstrapped`](super::Event::Bootstrapped) or
    /// [`BootstrapFailed`](super::Event::BootstrapFailed); no bootstrap is under way.
    Bootstrap(Interaction),
    /// Stop the bootstrap that is under way, and its ssh.
    StopBootstrap,
    /// Wait this long, then connect over the ssh channel of the last bootstrap. Ends with
    /// [`PipeTried`](super::Event::PipeTried); no such attempt is under way.
    TryPipe(Duration),
    /// Stop the attempt over the ssh channel, and its ssh.
    StopPipe,
    /// Move all streams to this connection, which was just found. Answered at once by
    /// [`Installed`](super::Event::Installed) or [`NotInstalled`](super::Event::NotInstalled).
    Install(ConnectionId),
    /// Close a connection that no longer carries the session.
    Close(ConnectionId),
    /// Reset all streams that the agent may know. If there are any, answered at once by
    /// [`StreamsReset`](super::Event::StreamsReset).
    ResetStreams(Loss),
    /// Start the workload on the agent that carries the session now.
    RestartWorkload,
    /// Save the paths to the agent for the next run.
    SaveTicket,
    /// Print a note.
    Note(String),
    /// Remove the steps of an attended bootstrap from the terminal: they will not be completed.
    DropSteps,
    /// End the session. No action follows.
    End(EndReason),
}
