//! How the session stays connected.

#[cfg_attr(
    not(test),
    allow(dead_code, reason = "what carries its actions out comes next")
)]
pub(crate) mod supervisor;
