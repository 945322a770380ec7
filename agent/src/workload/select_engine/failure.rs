//! Why there is no usable engine, and what helps.

use std::path::Path;

use jq_common::protocol::workload::{EngineChoice, Failure, FailureKind};

use crate::{
    engine::{
        docker::ConnectError,
        socket::{Setting, Unusable},
    },
    failure::fail,
    host_program,
    workload::HostContext,
};

/// Directories of daemons that may be missing in an ordinary user's PATH.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The failure when the user's settings name an engine that is none of this host's.
pub(super) fn unusable(why: &Unusable) -> Failure {
    let other_host = "the engine has to be the host's own: for that one, connect to the host that it runs on";
    match why {
        Unusable::Elsewhere(setting @ Setting::Host, address) => fail(
            FailureKind::EngineMissing,
            "the container engine is not on this host",
            format!("{setting} is `{address}` there"),
            format!("unset DOCKER_HOST on the host, or set it to a Unix socket; {other_host}"),
        ),
        Unusable::Elsewhere(setting @ Setting::Context(_), address) => fail(
            FailureKind::EngineMissing,
            "the container engine is not on this host",
            format!("{setting}, which is in use there, leads to `{address}`"),
            format!(
                "run `docker context use default` on the host (and unset DOCKER_CONTEXT if it is set); {other_host}"
            ),
        ),
        Unusable::NoContext(name) => fail(
            FailureKind::EngineMissing,
            format!("there is no docker context `{name}` on the host"),
            "DOCKER_CONTEXT or the docker configuration there names it",
            "`docker context ls` on the host lists the contexts; `docker context use default` takes the default one",
        ),
    }
}

/// The failure when no engine can be connected to.
pub(super) fn not_connected(host: &HostContext, choice: EngineChoice, error: &ConnectError) -> Failure {
    let installed = |program: &str| {
        host_program::find(program, &host.path).is_some()
            || host_program::find(program, SYSTEM_PATH.as_ref()).is_some()
    };
    match error {
        ConnectError::Permission(socket) => fail(
            FailureKind::EnginePermission,
            format!(
                "no permission to use the container engine at {}",
                socket.display()
            ),
            "permission denied on its socket",
            format!(
                "an administrator can run `sudo usermod -aG docker {}`; then log in again. \
                 Members of that group can act as root on the host; with rootless Docker or Podman they cannot",
                host.user
            ),
        ),
        ConnectError::Stopped(socket, why) => fail(
            FailureKind::EngineStopped,
            format!("the container engine at {} does not answer", socket.display()),
            why,
            how_to_start(socket),
        ),
        ConnectError::Missing(Some(socket)) => fail(
            FailureKind::EngineStopped,
            "the container engine that your Docker settings name is not running",
            format!("there is no socket at {}", socket.display()),
            "start it, or correct DOCKER_HOST or the docker context on the host",
        ),
        ConnectError::Missing(None) if choice != EngineChoice::Podman && installed("dockerd") => fail(
            FailureKind::EngineStopped,
            "Docker is installed on the host but not running",
            "there is no socket at /var/run/docker.sock",
            "start it: `sudo systemctl start docker`",
        ),
        ConnectError::Missing(None) if choice != EngineChoice::Docker && installed("podman") => fail(
            FailureKind::EngineStopped,
            "Podman is installed on the host but its API service is not running",
            "Podman's socket does not exist",
            "start it: `systemctl --user enable --now podman.socket`",
        ),
        ConnectError::Missing(None) => fail(
            FailureKind::EngineMissing,
            match choice {
                EngineChoice::Podman => "there is no Podman on the host",
                EngineChoice::Docker => "there is no Docker on the host",
                EngineChoice::Auto | EngineChoice::Process => "there is no container engine on the host",
            },
            "no engine socket was found in the usual places",
            "install Docker or Podman",
        ),
    }
}

/// How the engine at this socket is started.
pub(super) fn how_to_start(socket: &Path) -> &'static str {
    if socket.to_string_lossy().contains("podman") {
        "start it: `systemctl --user start podman.socket`, or `sudo systemctl start podman.socket`"
    } else {
        "start it: `sudo systemctl start docker`, or `systemctl --user start docker` for a rootless one"
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::workload::fixtures::host;

    #[test]
    fn each_kind_of_missing_engine_is_explained() {
        let socket = || PathBuf::from("/var/run/docker.sock");
        let podman = || PathBuf::from("/run/user/7/podman/podman.sock");
        for (error, kind, word) in [
            (
                ConnectError::Permission(socket()),
                FailureKind::EnginePermission,
                "usermod -aG docker ada",
            ),
            (
                ConnectError::Stopped(socket(), "refused".into()),
                FailureKind::EngineStopped,
                "systemctl start docker",
            ),
            (
                ConnectError::Stopped(podman(), "refused".into()),
                FailureKind::EngineStopped,
                "systemctl --user start podman.socket",
            ),
            (
                ConnectError::Missing(Some(socket())),
                FailureKind::EngineStopped,
                "DOCKER_HOST",
            ),
        ] {
            let failure = not_connected(&host(), EngineChoice::Auto, &error);
            assert_eq!(failure.kind, kind);
            assert!(failure.hint.contains(word), "{}", failure.hint);
        }
    }

    #[test]
    fn a_context_of_another_host_is_named_with_what_to_do() {
        let far = Unusable::Elsewhere(Setting::Context("far".into()), "ssh://ada@far".into());
        let failure = unusable(&far);
        assert_eq!(failure.kind, FailureKind::EngineMissing);
        assert!(failure.why.contains("docker context far") && failure.why.contains("ssh://ada@far"));
        assert!(failure.hint.contains("docker context use default"));
        let host = unusable(&Unusable::Elsewhere(Setting::Host, "tcp://box:2375".into()));
        assert!(host.why.contains("DOCKER_HOST is `tcp://box:2375`"));
        let gone = unusable(&Unusable::NoContext("gone".into()));
        assert!(gone.what.contains("`gone`") && gone.hint.contains("docker context ls"));
    }
}
