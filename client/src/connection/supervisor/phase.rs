//! Where the session stands.

use std::time::{Duration, Instant};

use super::{event::ConnectionId, policy::SUSPECT, recovery::Recovery};
use crate::{connection::paths::Rank, status::State};

/// The connection that carries the session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) rank: Rank,
    /// When it was installed.
    pub(super) since: Instant,
}

/// Where the session stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// A connection carries it. At most a better one is searched.
    Connected(Connection),
    /// A connection carries it, as far as is known. Another one is searched, because this machine woke or its network
    /// changed.
    Replacing(Connection, Recovery),
    /// The agent has closed the connection in favour of one that was just made, whose answer is on its way.
    Moving {
        /// When it is too late.
        until: Instant,
        /// The effort that led to the new connection, unless it is a better one than the old.
        recovery: Option<Recovery>,
    },
    /// Nothing comes through the connection, or so it is said.
    Suspect(Connection, Outage),
    /// Nothing carries it.
    Down(Outage),
    /// It is over.
    Ended,
}

/// Nothing comes through.
#[derive(Debug)]
pub(super) struct Outage {
    pub(super) since: Instant,
    pub(super) recovery: Recovery,
}

impl Phase {
    /// What carries the session, or may still.
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

    /// Since when there is an outage, and the effort to find any connection.
    pub(super) fn into_effort(self) -> (Option<Instant>, Option<Recovery>) {
        match self {
            Self::Replacing(_, recovery) => (None, Some(recovery)),
            Self::Moving { recovery, .. } => (None, recovery),
            Self::Suspect(_, outage) | Self::Down(outage) => (Some(outage.since), Some(outage.recovery)),
            Self::Connected(_) | Self::Ended => (None, None),
        }
    }

    /// When something is to be done though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Connected(_) | Self::Ended => None,
            Self::Replacing(_, recovery) => recovery.deadline(),
            Self::Moving { until, recovery } => {
                let ssh = recovery.as_ref().and_then(Recovery::deadline);
                Some(ssh.map_or(*until, |ssh| ssh.min(*until)))
            }
            Self::Suspect(_, outage) | Self::Down(outage) => outage.recovery.deadline(),
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
