//! Every message the two ends may send each other over QUIC.
//!
//! A client opens a bidirectional stream and sends one [`StreamHeader`](stream::StreamHeader). A request stream then
//! carries [`Event`](workload::Event) frames back until a final one; a forward stream carries a TCP connection's bytes
//! both ways.
//!
//! The session layer ([`session`]) is small frames in postcard. Everything above it is [messages](message) in JSON, which
//! may gain fields and kinds; what needs more than that is a [capability](capabilities).

pub mod capabilities;
pub mod datagram;
pub mod exec;
pub mod hex;
pub mod limits;
pub(crate) mod list;
pub mod message;
pub mod profile;
pub mod session;
pub mod stream;
pub mod target;
pub mod topics;
pub mod version;
pub mod volume;
pub mod workload;
