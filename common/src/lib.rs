//! What client and agent share: the protocol, how it is framed, who is trusted, how QUIC is set up, and streams that outlive
//! a connection.
//!
//! # Layout
//!
//! - [`protocol`]: every message over QUIC, with its limits and version
//! - [`codec`]: messages as length-prefixed frames over any byte stream
//! - [`bootstrap`]: what is said over SSH, once, before QUIC
//! - [`identity`]: certificates made for one run, and the verifiers that pin them
//! - [`quic`]: endpoint and transport configuration; `congestion`: the congestion controller that it installs
//! - [`carrier`]: what QUIC packets travel by: UDP, UDP through relays, a byte pipe
//! - [`session`]: streams that outlive connections. The state machine of one stream is a crate below this one,
//!   `jq-session-core`
//! - [`private_files`]: files and folders that only this user may read; [`peer_cred`]: a control socket that accepts only the same user; [`descriptors`]: the limit on open files;
//!   [`text`]: remote text made safe to print
//!
//! # Invariants
//!
//! This crate starts no process, prints nothing, and knows neither SSH nor Docker. Only [`private_files`] opens files.

pub mod bootstrap;
pub mod carrier;
pub mod codec;
mod congestion;
pub mod descriptors;
pub mod identity;
#[cfg(test)]
#[path = "../tests/shared/not_run.rs"]
mod not_run;
pub mod peer_cred;
pub mod private_files;
pub mod protocol;
pub mod quic;
pub mod session;
pub mod text;
