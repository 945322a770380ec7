//! What a stream is for, what comes back on it first, and the codes that end one early.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{
    datagram::FlowId,
    exec::ExecSpec,
    limits,
    message::{Json, Message},
    target::Target,
    workload::Request,
};

/// A [`StreamHeader`] in the first frame of its stream.
pub type Header = Json<{ limits::HEADER }>;

/// What a new stream is for. Sent by the client, in the stream's [first frame](super::session::Open). An agent that does
/// not understand it resets the stream with [`ResetCode::Unsupported`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamHeader {
    /// A request; events come back as frames until a final one.
    Request(Request),
    /// A forwarded connection; its bytes follow in both directions.
    Forward {
        /// What the agent connects to.
        target: Target,
        /// Whether an [`Opened`] frame precedes the first byte that comes back. Needs
        /// [`Capabilities::OPENED`](super::capabilities::Capabilities::OPENED).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        confirm: bool,
    },
    /// Waits for a connection to what the client's reverse forward of this number listens on. The agent answers with an
    /// [`Accepted`] frame and the connection's bytes. Needs
    /// [`Capabilities::REVERSE`](super::capabilities::Capabilities::REVERSE).
    Wait {
        /// Which forward.
        forward: u32,
    },
    /// A command in the workload; [frames](super::exec) follow both ways. Needs
    /// [`Capabilities::EXEC`](super::capabilities::Capabilities::EXEC).
    Exec(Box<ExecSpec>),
    /// A flow of datagrams, for as long as the stream lives. Needs
    /// [`Capabilities::DATAGRAMS`](super::capabilities::Capabilities::DATAGRAMS).
    Datagrams {
        /// Names the flow in each [`Datagram`](super::datagram::Datagram).
        flow: FlowId,
        /// Where its datagrams go.
        target: Target,
    },
}

impl StreamHeader {
    /// A connection to `target`, not confirmed.
    #[must_use]
    pub fn forward(target: Target) -> Self {
        Self::Forward {
            target,
            confirm: false,
        }
    }
}

/// The agent has connected. A frame of at most [`limits::REPLY_FRAME`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Opened {}

/// Somebody has connected to what a reverse forward listens on. A frame of at most [`limits::REPLY_FRAME`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Accepted {
    /// Who; none where that has no address.
    pub peer: Option<SocketAddr>,
}

impl Message for StreamHeader {}
impl Message for Opened {}
impl Message for Accepted {}

/// Why a stream was reset, as a QUIC application error code (RFC 9000, section 20.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ResetCode {
    /// The TCP connection at the other end was reset.
    ConnectionReset = 1,
    /// Nothing listens at the target.
    Refused = 2,
    /// The target cannot be reached, or its name not be found.
    Unreachable = 3,
    /// The target did not answer in time.
    TimedOut = 4,
    /// No workload has been started in this session.
    NoWorkload = 5,
    /// The header was missing, late, too long or unreadable.
    BadHeader = 6,
    /// The process at the other end is ending.
    ShuttingDown = 7,
    /// The session, or the agent that held it, is gone.
    SessionLost = 8,
    /// The other end said something that cannot be.
    ProtocolViolation = 9,
    /// The agent has as many streams or requests of the session as it takes.
    TooMany = 10,
    /// The other end does not understand what the stream is for, or cannot do it: it is older than this end.
    Unsupported = 11,
}

impl ResetCode {
    /// Every code.
    pub const ALL: [Self; 11] = [
        Self::ConnectionReset,
        Self::Refused,
        Self::Unreachable,
        Self::TimedOut,
        Self::NoWorkload,
        Self::BadHeader,
        Self::ShuttingDown,
        Self::SessionLost,
        Self::ProtocolViolation,
        Self::TooMany,
        Self::Unsupported,
    ];

    /// The code of a reset that came from the peer; an unknown one is taken as [`ResetCode::ConnectionReset`].
    #[must_use]
    pub fn from_wire(code: u64) -> Self {
        let known = Self::ALL.into_iter().find(|known| *known as u64 == code);
        known.unwrap_or(Self::ConnectionReset)
    }

    /// The number on the wire.
    #[must_use]
    pub fn to_wire(self) -> quinn::VarInt {
        quinn::VarInt::from_u32(self as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reset_code_survives_the_wire() {
        for code in ResetCode::ALL {
            assert_eq!(ResetCode::from_wire(code.to_wire().into_inner()), code);
        }
        assert_eq!(ResetCode::from_wire(u64::MAX), ResetCode::ConnectionReset);
    }
}
