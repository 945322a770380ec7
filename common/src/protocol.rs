//! Every message the two ends may send each other over QUIC.
//!
//! A client opens a bidirectional stream and sends one [`StreamHeader`](stream::StreamHeader) frame. A request stream
//! then carries [`Event`](workload::Event) frames back until a final one; a forward stream carries a TCP connection's bytes both ways.

pub mod limits;
mod list;
pub mod session;
pub mod stream;
pub mod version;
pub mod workload;
