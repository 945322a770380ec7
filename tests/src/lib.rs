//! The lab and the helpers that the integration tests share.
//!
//! [`lab::Lab`] makes real hosts on one machine: network namespaces joined by links whose delay, loss and
//! rate can be set, each with a Unix user of its own, a real sshd and, on the GPU host, a real dockerd.
//! `jq-lab` is the same for use by hand.
//!
//! # Layout
//! - [`lab`]: hosts, links, daemons, images, and their removal.
//! - [`eventually`]: waiting for a condition with a deadline, instead of sleeping.
//! - [`product`]: `jq-client` as a process; [`terminal`]: one with its user in front of it; [`http`]: enough of it to
//!   talk to Jupyter.
//! - [`panics`]: what no process of the product may print.
//! - [`oracle`]: streams whose every byte is known; [`faults`]: what must be survived, each as a scenario with a bar.
//! - [`bench`]: how fast that is, beside others.
//! - [`require`]: what a test needs of the machine, said aloud when it is missing.

pub mod bench;
mod environment;
mod eventually;
pub mod faults;
pub mod http;
pub mod lab;
pub mod oracle;
pub mod panics;
pub mod product;
pub mod require;
pub mod terminal;

pub use eventually::{eventually, eventually_some};
