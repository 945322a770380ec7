//! The part of jq that runs away from the laptop: one static binary with three roles.
//!
//! # Layout
//!
//! - [`bootstrap`]: the SSH channel's end: starts a role's process unless it runs, and passes one message each way
//! - [`cli`]: the command line; the only reading of the environment
//! - [`serve`]: the role on the GPU host: lets clients in over QUIC, dials what they forward to
//! - [`relay`]: the role on a gateway: passes sealed QUIC packets between a client and an agent
//! - [`inside`]: the role in a container's network namespace: dials there, hands the socket out
//! - [`workload`]: what a client asked for, compared with what is there, turned into steps and carried out
//! - [`engine`]: who runs containers, in our own words; its folder holds the real ones
//! - [`jupyter`], [`gpu`]: what is known about each, without doing it
//! - `disk`: work on files that may take its time
//! - [`rundir`]: the private folder of a running role; [`udp`]: its UDP port

pub mod bootstrap;
pub mod cli;
mod engine;
mod fd_passing;
mod host_program;
mod keyed_mutex;
mod log_tail;
pub mod netns_helper;
pub mod relay;
mod run_blocking;
pub mod rundir;
pub mod serve;
mod session_store;
mod udp;
mod workload;
