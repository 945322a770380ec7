//! What jq's client and agent must agree on: the protocol, how it is framed, who is trusted, and how QUIC is set up.
//!
//! # Layout
//!
//! - [`protocol`]: every message either side may send, with its limits and version
//! - [`codec`]: messages as length-prefixed frames over any byte stream
//! - [`bootstrap`]: what is said over SSH, once, before QUIC
//! - [`identity`]: certificates made for a session, and the verifiers that pin them
//! - [`quic`]: endpoint and transport configuration
//! - [`congestion`]: how much may be under way on a path
//! - [`carrier`]: how a QUIC packet travels when it does not go straight to the agent
//! - [`descriptors`]: how many this process may have open
//! - [`peer_cred`]: accepting on a control socket
//! - [`text`]: making remote text safe to print
//!
//! This crate starts no process, opens no file, prints nothing and knows neither SSH nor Docker.

pub mod bootstrap;
pub mod carrier;
pub mod codec;
pub mod congestion;
pub mod descriptors;
pub mod identity;
pub mod peer_cred;
pub mod protocol;
pub mod quic;
pub mod session;
pub mod text;
