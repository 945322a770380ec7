//! The encoded messages between the two ends are equal to the golden files in `tests/golden`.

#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

mod frames;
#[path = "../shared/golden.rs"]
mod golden;
mod messages;
