//! Failures that several kinds of workloads have in common.

use std::io;

use jq_common::protocol::workload::{Failure, FailureKind};

use crate::{engine::EngineError, failure::fail};

/// The failure of a call to the engine.
pub(crate) fn engine(what: &str, error: &EngineError) -> Failure {
    let (kind, hint) = match error {
        EngineError::Lost(_) => (
            FailureKind::EngineStopped,
            "check that the engine is running (`systemctl status docker`) and try again",
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

/// The failure to read or write the records of a session name on the host.
pub(crate) fn state(error: &io::Error) -> Failure {
    fail(
        FailureKind::HostUnfit,
        "cannot keep this session's state",
        error.to_string(),
        "free some space in your home on the host, or make it writable for you",
    )
}
