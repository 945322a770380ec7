//! The messages between the agent and a helper.
//!
//! Requests and replies have a fixed length, so that they need no framing on a byte stream: a request is an id and a
//! port, a reply is an id and an errno, with the socket attached when the errno is 0.

/// Length in bytes of a request (id, port, two unused) and of a reply (id, errno).
pub(super) const MESSAGE: usize = 8;
