//! The integration tests: one binary, one file for each topic.

mod agent_binary;
mod browser;
mod connect;
mod containers;
mod endings;
mod faults;
mod forwards;
mod gpus;
mod lab;
mod local;
mod login;
mod moving;
mod mutants;
mod pull;
mod structure;
mod troubles;
