//! Bounds on what a peer may make this process hold or wait for.

use std::time::Duration;

/// Longest control frame in bytes (a request or an event).
pub const CONTROL_FRAME: usize = 256 * 1024;

/// Longest frame of an attachment's control stream after its first, in bytes: 1,024 entries of a table, and some.
pub const SESSION_FRAME: usize = 64 * 1024;

/// Longest stream header in bytes. A request travels in its header.
pub const HEADER_FRAME: usize = CONTROL_FRAME;

/// Longest header itself: the frame has numbers besides.
pub const HEADER: usize = HEADER_FRAME - 64;

/// How long the first frame of a stream may take.
pub const FIRST_FRAME: Duration = Duration::from_secs(10);

/// How many streams a client may have open at once, each a forwarded connection or a request.
pub const STREAMS: u32 = 16_384;

/// How long dialling a forward's target may take.
pub const DIAL: Duration = Duration::from_secs(10);

/// How much may be read from a shell before the nonce appears, in bytes (banners and start-up files that print).
pub const BANNER: usize = 1024 * 1024;

/// Longest bootstrap message in bytes.
pub const BOOTSTRAP_FRAME: usize = 64 * 1024;

/// Longest first frame that comes back on a stream whose client asked for one, in bytes.
pub const REPLY_FRAME: usize = 4096;

/// Longest value of a topic in bytes: with all that stands around it, it fits into a [`SESSION_FRAME`].
pub const UPDATE_VALUE: usize = 32 * 1024;

/// Most streams that a client keeps waiting for each of its reverse forwards.
pub const WAITING_STREAMS: usize = 16;

/// Longest frame of a command's stream in bytes: its kind, and data.
pub const EXEC_FRAME: usize = 1 + 64 * 1024;

/// Longest payload of a datagram in bytes: what UDP carries over IPv4 (RFC 768).
pub const DATAGRAM: usize = 65_507;
