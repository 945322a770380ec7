//! Builds the failures that the client shows to the user.

use std::fmt::Display;

use jq_common::protocol::workload::{Failure, FailureKind};

/// A failure from its four parts: what failed, why, and what the user can do about it.
pub(crate) fn fail(
    kind: FailureKind,
    what: impl Into<String>,
    why: impl Into<String>,
    hint: impl Into<String>,
) -> Failure {
    Failure {
        kind,
        what: what.into(),
        why: why.into(),
        hint: hint.into(),
    }
}

/// The answer to a bootstrap request that only a newer build understands.
pub(crate) fn older_build() -> Failure {
    fail(
        FailureKind::HostUnfit,
        "the agent does not understand the request",
        "the agent that runs there is older than this command",
        "end the other sessions there and connect again",
    )
}

/// A failure of the host or of the agent, without a hint.
pub fn host_unfit(what: &str, why: impl Display) -> Failure {
    fail(FailureKind::HostUnfit, what, why.to_string(), "")
}
