//! The first frame of a stream, and the codes that end one early.

use serde::{Deserialize, Serialize};

use super::workload::Request;

/// What a new stream is for. Sent once by the client, as the first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamHeader {
    /// A request; events come back as frames until a final one.
    Request(Request),
    /// A forwarded TCP connection; raw bytes follow in both directions.
    Forward(Target),
}

/// Where the agent dials for a forwarded connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A TCP port on the workload's own loopback (the container's 127.0.0.1, then its ::1).
    Workload {
        /// TCP port.
        port: u16,
    },
    /// An address that the GPU host can reach, by name or number.
    Host {
        /// Host name or IP address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
}

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
}

impl ResetCode {
    /// The code of a reset that came from the peer; an unknown one is taken as [`ResetCode::ConnectionReset`].
    #[must_use]
    pub fn from_wire(code: u64) -> Self {
        match code {
            2 => Self::Refused,
            3 => Self::Unreachable,
            4 => Self::TimedOut,
            5 => Self::NoWorkload,
            6 => Self::BadHeader,
            7 => Self::ShuttingDown,
            8 => Self::SessionLost,
            9 => Self::ProtocolViolation,
            10 => Self::TooMany,
            _ => Self::ConnectionReset,
        }
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
        for code in [
            ResetCode::ConnectionReset,
            ResetCode::Refused,
            ResetCode::Unreachable,
            ResetCode::TimedOut,
            ResetCode::NoWorkload,
            ResetCode::BadHeader,
            ResetCode::ShuttingDown,
            ResetCode::SessionLost,
            ResetCode::ProtocolViolation,
            ResetCode::TooMany,
        ] {
            assert_eq!(ResetCode::from_wire(code.to_wire().into_inner()), code);
        }
        assert_eq!(ResetCode::from_wire(u64::MAX), ResetCode::ConnectionReset);
    }
}
