//! The lab and the helpers that the integration tests share.
//!
//! [`lab::Lab`] makes real hosts on one machine: network namespaces joined by links whose delay, loss and
//! rate can be set, each with a Unix user of its own, a real sshd and, on the GPU host, a real dockerd.
//! `jq-lab` is the same for use by hand.
//!
//! # Layout
//! - [`lab`]: hosts, links, daemons, images, and their removal.
//! - [`eventually`]: waiting for a condition with a deadline, instead of sleeping.
//! - [`product`]: `jq-client` as a process; [`terminal`]: the same in a terminal; [`http`]: enough of it to
//!   talk to Jupyter.
//! - [`panics`]: finds panics in output and logs.
//! - [`oracle`]: streams whose every byte is verified; [`faults`]: the fault table, each row a scenario with a limit.
//! - [`mod@bench`]: performance, compared with other tools.
//! - [`mutants`]: the patches that switch defences off, and whether they still fit.
//! - [`require`]: what a test needs of the machine.
//! - [`structure`]: the product's sources as text: which file imports which.

pub mod bench;
mod environment;
mod eventually;
pub mod faults;
pub mod http;
pub mod lab;
pub mod mutants;
pub mod oracle;
pub mod panics;
pub mod product;
pub mod require;
pub mod structure;
pub mod terminal;

pub use eventually::{eventually, eventually_some};
