//! Connections to an agent: the paths to it, the race between them, and one connection kept for as long as the session
//! lives.
//!
//! # Layout
//!
//! - `route`: the target, and the options for the route to it
//! - `bootstrap`: logs in over ssh, starts the agent and the relays, and learns the paths
//! - `paths`: a QUIC connection over one path; `rank`: the kinds of path; `relay`: the handshake with relays; `race`: several
//!   paths at once
//! - `establish`: the first connection; `resume_ticket`: what makes the next one possible without ssh
//! - `supervisor`: decides, without I/O, what to do when something happens to the connection; `supervise` carries that out.
//!   `interaction`: whether ssh may ask the user
//! - `liveness`: notices when the peer falls silent
//! - `wakeup`: reasons to retry now: resume from suspend, a changed network, Enter; `backoff`: how long to wait otherwise

pub(crate) mod backoff;
pub(crate) mod bootstrap;
pub(crate) mod establish;
mod interaction;
pub(crate) mod liveness;
pub(crate) mod paths;
pub(crate) mod race;
mod rank;
mod relay;
pub(crate) mod resume_ticket;
pub(crate) mod route;
pub(crate) mod supervise;
mod supervisor;
pub(crate) mod wakeup;
