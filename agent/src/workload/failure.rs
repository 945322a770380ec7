//! Failures in words for the user.

use jq_common::protocol::workload::{Failure, FailureKind};

use crate::engine::EngineError;

/// A failure, from its four parts.
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

/// The failure of a call to the engine that nothing more particular is known about.
pub(crate) fn engine(what: &str, error: &EngineError) -> Failure {
    let (kind, hint) = match error {
        EngineError::Lost(_) => (
            FailureKind::EngineStopped,
            "see whether the engine runs (`systemctl status docker`) and try again",
        ),
        EngineError::NoSpace(_) => (
            FailureKind::HostUnfit,
            "free space on the host: `docker system df` shows what the engine holds",
        ),
        EngineError::MountRefused(_) => (
            FailureKind::VolumeUnavailable,
            "check the source paths of `-v`: they are paths of the GPU host",
        ),
        EngineError::GpuRefused(_) => (
            FailureKind::GpuUnavailable,
            "install the NVIDIA Container Toolkit on the host, or use `--gpus none`",
        ),
        EngineError::CommandMissing(_) => (
            FailureKind::CommandMissing,
            "use an image that has a command of its own",
        ),
        _ => (FailureKind::StartFailed, "this is the engine's own message"),
    };
    fail(kind, what, error.to_string(), hint)
}
