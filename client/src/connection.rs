//! Connections to an agent: the paths to it, the race between them, and a connection kept for as long as a session lives.
//!
//! # Layout
//!
//! - [`route`]: the target, and what the user said about the way to it
//! - [`bootstrap`]: over ssh, to an agent that lets this client in, and the paths to it
//! - [`paths`]: a connection by one path; `relay`: the handshake with relays; [`race`]: several paths at once
//! - [`establish`]: the first connection; [`resume_ticket`]: what makes the next one possible without ssh
//! - `supervisor`: decides, without I/O, when to search, when to start ssh, and which connection carries the session;
//!   [`supervise`] carries that out
//! - [`liveness`]: whether a connection still hears from its peer
//! - [`wakeup`]: reasons to try again now; [`backoff`]: how long to wait otherwise

pub mod backoff;
pub mod bootstrap;
pub mod establish;
pub mod liveness;
pub mod paths;
pub mod race;
mod relay;
pub mod resume_ticket;
pub mod route;
pub mod supervise;
mod supervisor;
pub mod wakeup;
