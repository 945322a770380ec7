//! The state of the session's connection.

use std::time::{Duration, Instant};

use super::{event::ConnectionId, policy::SUSPECT, recovery::Recovery};
use crate::{connection::rank::Rank, status::State};

/// The connection that carries the session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) rank: Rank,
    /// When it was installed.
    pub(super) since: Instant,
}

/// The state of the session's connection.
#[derive(Debug)]
pub(super) enum Phase {
    /// A connection carries the session. At most a better one is searched.
    Connected(Connection),
    /// A connection carries the session, as far as is known. Another one is searched, because of a resume or a change of
    /// networks.
    Replacing(Connection, Recovery),
    /// The agent has closed the connection in favour of another one of this client, which is about to be found.
    Moving {
        /// When that is overdue.
        until: Instant,
        /// The effort that led to the new connection. None if the search for a better one did.
        recovery: Option<Recovery>,
    },
    /// The connection is silent or reported dead, and may still work.
    Suspect(Connection, Outage),
    /// No connection carries the session.
    Down(Outage),
    /// The session has ended.
    Ended,
}

/// A time without a connection that works.
#[derive(Debug)]
pub(super) struct Outage {
    pub(super) since: Instant,
    pub(super) recovery: Recovery,
}

impl Phase {
    /// The connection that carries the session, or may still do so.
    pub(super) fn connection(&self) -> Option<Connection> {
        match self {
            Self::Connected(connection) | Self::Replacing(connection, _) | Self::Suspect(connection, _) => {
                Some(*connection)
            }
            Self::Moving { .. } | Self::Down(_) | Self::Ended => None,
        }
    }

    /// The outage, while there is one.
    pub(super) fn outage(&self) -> Option<&Outage> {
        match self {
            Self::Suspect(_, outage) | Self::Down(outage) => Some(outage),
            Self::Connected(_) | Self::Replacing(..) | Self::Moving { .. } | Self::Ended => None,
        }
    }

    /// The effort to find any connection, while there is one.
    pub(super) fn recovery(&mut self) -> Option<&mut Recovery> {
        match self {
            Self::Replacing(_, recovery) => Some(recovery),
            Self::Moving { recovery, .. } => recovery.as_mut(),
            Self::Suspect(_, outage) | Self::Down(outage) => Some(&mut outage.recovery),
            Self::Connected(_) | Self::Ended => None,
        }
    }

    /// The start of the outage, and the effort to find any connection.
    pub(super) fn into_effort(self) -> (Option<Instant>, Option<Recovery>) {
        match self {
            Self::Replacing(_, recovery) => (None, Some(recovery)),
            Self::Moving { recovery, .. } => (None, recovery),
            Self::Suspect(_, outage) | Self::Down(outage) => (Some(outage.since), Some(outage.recovery)),
            Self::Connected(_) | Self::Ended => (None, None),
        }
    }

    /// Time of the next action if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Connected(_) | Self::Ended => None,
            Self::Replacing(_, recovery) => Some(recovery.deadline()),
            Self::Moving { until, recovery } => {
                let ssh = recovery.as_ref().map(Recovery::deadline);
                Some(ssh.map_or(*until, |ssh| ssh.min(*until)))
            }
            Self::Suspect(_, outage) | Self::Down(outage) => Some(outage.recovery.deadline()),
        }
    }

    /// What the user sees. A move from one connection to another is no outage.
    pub(super) fn state(&self, now: Instant) -> State {
        match self {
            Self::Connected(_) | Self::Replacing(..) | Self::Moving { .. } => State::Connected,
            Self::Suspect(_, outage) | Self::Down(outage) if outage.recovery.needs_login() => {
                State::LoginNeeded
            }
            Self::Suspect(_, outage) if outage.lasted(now) < SUSPECT => State::Suspect,
            Self::Suspect(..) | Self::Down(_) => State::Reconnecting,
            Self::Ended => State::Lost,
        }
    }
}

impl Outage {
    pub(super) fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}
