//! The lab and the helpers that the integration tests share.
//!
//! [`lab::Lab`] simulates hosts on one machine. Each host is a network namespace with its own Unix user, a real sshd
//! and, on the GPU host, a real dockerd. The links between them have adjustable delay, loss and rate. `jq-lab` is the
//! same for use by hand.
//!
//! # Layout
//! - [`lab`]: hosts, links, daemons, images, and their removal.
//! - [`eventually`]: waits for a condition, with a deadline.
//! - [`product`]: `jq-client` as a process; [`terminal`]: a program in a pseudo terminal; [`http`]: a minimal HTTP
//!   client for Jupyter.
//! - [`panics`]: finds panics in output and logs.
//! - [`oracle`]: streams whose every byte is verified; [`faults`]: the fault table, whose rows are scenarios with limits.
//! - [`engines`]: the matrix of engines of several generations.
//! - [`mod@bench`]: benchmarks of the product and of other tools.
//! - [`mutants`]: the patches that switch defences off, and whether they still fit the sources.
//! - [`require`]: what a test needs of the machine.
//! - [`structure`]: static analysis of the product's sources: which file imports which.

pub mod bench;
pub mod engines;
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
