//! Connections to an agent: the paths to it, the race between them, and a connection kept for as long as a session lives.
//!
//! # Layout
//!
//! - [`bootstrap`]: over ssh, to an agent that lets this client in, and the paths to it
//! - [`paths`]: a connection by one path; `relay`: the handshake with relays; [`race`]: several paths at once
//! - [`establish`]: the first connection; [`resume_ticket`]: what makes the next one possible without ssh
//! - [`keeper`]: another connection when one is lost, and a better one when there is one
//! - [`liveness`]: whether a connection still hears from its peer
//! - [`wakeup`]: reasons to try again now; [`backoff`]: how long to wait otherwise

pub mod backoff;
pub mod bootstrap;
pub mod establish;
pub mod keeper;
pub mod liveness;
pub mod paths;
pub mod race;
mod relay;
pub mod resume_ticket;
pub mod wakeup;
