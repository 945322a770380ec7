//! What travels between the two ends is what the files under `tests/golden` say.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod frames;
#[path = "../shared/golden.rs"]
mod golden;
mod messages;
