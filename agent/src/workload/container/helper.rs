//! The helper in a container's network: the agent's own binary, alone in an image, in a container that shares the
//! target's network and nothing else. It works for any target: no shell, read-only, non-root.

mod access;
mod error;
mod image;
mod lifecycle;
mod spec;

pub(crate) use self::access::{ContainerAccess, Helpers};

#[cfg(test)]
mod tests;
