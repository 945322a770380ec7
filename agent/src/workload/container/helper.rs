//! The network helper of a container: the agent's own binary in an image of its own, run in a container that shares the
//! target's network and nothing else. It is read-only, non-root and needs no shell, so it works with any target.

mod access;
mod error;
mod image;
mod imported;
mod lifecycle;
mod spec;

pub(crate) use self::access::{ContainerAccess, Helpers};

#[cfg(test)]
mod tests;
