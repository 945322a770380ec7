//! Classifies errors of an engine. Engines distinguish these cases only in the message text.

use crate::engine::EngineError;

/// Classifies by HTTP status (None for an error inside a stream) and message.
pub(super) fn classify(status: Option<u16>, message: &str) -> EngineError {
    let text = message.to_owned();
    let low = message.to_lowercase();
    let says = |any: &[&str]| any.iter().any(|part| low.contains(part));
    // The message may contain names of images, containers and users, so the most specific phrases come first.
    if says(&["no such image", "no such container", "could not find the file"]) {
        EngineError::NotFound(text)
    } else if says(&["no space left on device", "disk quota exceeded"]) {
        EngineError::NoSpace(text)
    } else if says(&["docker-init", "catatonit", "container-init binary"]) {
        EngineError::InitMissing(text)
    } else if says(&[
        "executable file not found",
        "no such file or directory: unknown",
        "exec format error",
        "no command specified",
    ]) || (says(&["no such file or directory"]) && says(&["exec:", "exec "]))
    {
        EngineError::CommandMissing(text)
    } else if says(&[
        "could not select device driver",
        "nvidia-container-cli",
        "nvidia-container-runtime",
        "libnvidia",
        "nvidia.com/gpu",
        "cdi device",
        "/dev/kfd",
        "/dev/dri",
        "unresolvable cdi",
    ]) {
        EngineError::GpuRefused(text)
    } else if says(&["rlimit", "ulimit"]) {
        EngineError::LimitRefused(text)
    } else if says(&[
        "bind source path does not exist",
        "invalid mount config",
        "invalid volume specification",
        "invalid mode",
        "invalid volume mode",
        "invalid option",
        "error mounting",
        "creating mount source path",
        "error evaluating symlinks from mount source",
        "statfs",
    ]) {
        EngineError::MountRefused(text)
    } else {
        match status {
            Some(404) => EngineError::NotFound(text),
            Some(409) => EngineError::Conflict(text),
            _ => EngineError::Refused(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_of_an_engine_is_classified() {
        for (status, message, kind) in [
            (404, "No such image: nvcr.io/nvidia/pytorch:25.01-py3", "NotFound"),
            (
                409,
                "Conflict. The container name \"/jq-nvidia-gpu\" is already in use",
                "Conflict",
            ),
            (
                400,
                r#"OCI runtime create failed: nvidia-container-runtime did not terminate successfully: exec: "jupyter": executable file not found in $PATH"#,
                "CommandMissing",
            ),
            (
                400,
                r#"failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "jupyter": executable file not found in $PATH: unknown"#,
                "CommandMissing",
            ),
            (
                500,
                r#"exec: "docker-init": executable file not found in $PATH"#,
                "InitMissing",
            ),
            (
                500,
                r#"could not select device driver "" with capabilities: [[gpu]]"#,
                "GpuRefused",
            ),
            (
                500,
                "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all",
                "GpuRefused",
            ),
            (
                500,
                "error setting rlimits for ready process: operation not permitted",
                "LimitRefused",
            ),
            (
                400,
                r#"invalid mount config for type "bind": bind source path does not exist: /data"#,
                "MountRefused",
            ),
            (
                500,
                "error while creating mount source path '/home/ada/work': mkdir /home/ada: permission denied",
                "MountRefused",
            ),
            (400, "invalid mode: U", "MountRefused"),
            (404, "No such container: x", "NotFound"),
            (
                409,
                r#"Conflict. The container name "/jq-a-b" is already in use"#,
                "Conflict",
            ),
            (
                500,
                "write /var/lib/docker/tmp/x: no space left on device",
                "NoSpace",
            ),
            (500, "something else", "Refused"),
        ] {
            let error = classify(Some(status), message);
            assert!(format!("{error:?}").starts_with(kind), "{error:?} is not {kind}");
            assert_eq!(error.to_string(), message);
        }
    }
}
