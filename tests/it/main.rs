//! The integration tests: one binary, one file for each topic.

mod agent_binary;
mod browser;
mod connect;
mod containers;
mod conversation;
mod deployment;
mod endings;
mod engine;
mod engines;
mod faults;
mod follows;
mod forwards;
mod gpus;
mod jupyter;
mod lab;
mod local;
mod login;
mod machines;
mod moving;
mod mutants;
mod own_ssh;
mod pull;
mod structure;
mod troubles;
