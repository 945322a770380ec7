//! The part of jq that runs away from the laptop: one static binary with three roles.
//!
//! # Layout
//!
//! Each room imports only rooms below it.
//!
//! - [`cli`]: the command line; the only reader of the environment
//! - [`serve`]: the role on the GPU host: admits clients over QUIC, keeps their sessions, dials what they forward to,
//!   and hands everything over to a successor process in an upgrade
//! - [`relay`]: the role on a gateway: forwards sealed QUIC packets between clients and agents
//! - [`netns_helper`]: the role in a container's network namespace: dials there and passes the socket to the agent
//! - `workload`: finds or starts what a client asked for; `container`, `process`, `jupyter` and `gpu` each have what is
//!   known about them, how they are probed and how they are started
//! - `engine`: who runs containers, in our own words; `engine::docker` implements it
//! - `session_store`: tokens and records that outlive the agent
//! - [`bootstrap`]: the remote end of the SSH channel: finds or starts a role's process, relays one message each way;
//!   `bootstrap::contract` is what different builds agree on
//! - [`role_start`]: binds a role's lock, UDP port and control socket
//! - [`rundir`]: the private folder of a running role
//!
//! Leaves, which import nothing of ours but each other: [`failure`], `role`, `udp`, `fd_passing`, `host_program`,
//! `log_tail`, `keyed_mutex`, `random_hex`, `run_blocking`.

pub mod bootstrap;
pub mod cli;
mod engine;
pub mod failure;
mod fd_passing;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(test)]
#[path = "../../common/tests/shared/golden.rs"]
#[allow(dead_code, reason = "the tests of the frames use the rest")]
mod golden;
mod host_program;
mod keyed_mutex;
mod log_tail;
pub mod netns_helper;
#[cfg(test)]
#[path = "../../common/tests/shared/not_run.rs"]
mod not_run;
mod random_hex;
pub mod relay;
mod role;
pub mod role_start;
mod run_blocking;
pub mod rundir;
pub mod serve;
mod session_store;
mod udp;
mod workload;
