//! The integration tests: one binary, a topic a file.

mod agent_binary;
mod browser;
mod connect;
mod containers;
mod endings;
mod engine;
mod faults;
mod forwards;
mod gpus;
mod lab;
mod local;
mod login;
mod moving;
mod pull;
mod structure;
mod troubles;
