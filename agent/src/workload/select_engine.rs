//! Selects the engine that runs a workload.

use std::{path::PathBuf, sync::Arc};

use jq_common::protocol::workload::{EngineChoice, Failure, FailureKind, WorkloadSpec};

use super::{EventSink, HostContext, container::ownership};
use crate::{
    engine::{
        ContainerEngine,
        docker::{ConnectError, Docker},
        socket::{self, Settings},
    },
    failure::fail,
    host_program,
    session_store::SessionStore,
};

/// Directories of daemons that may be missing in an ordinary user's PATH.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What runs a workload.
pub(crate) enum Runner {
    /// A container engine.
    Engine(Arc<dyn ContainerEngine>),
    /// No engine: it is a process of the host.
    Process,
}

/// Selects the engine, and tells the user why if the choice was left open.
pub(crate) async fn select(
    host: &HostContext,
    store: &SessionStore,
    spec: &WorkloadSpec,
    events: &EventSink,
) -> Result<Runner, Failure> {
    let wants_container = spec.image.is_some() || spec.existing_container.is_some();
    match spec.engine {
        EngineChoice::Process => Ok(Runner::Process),
        EngineChoice::Docker | EngineChoice::Podman => Ok(Runner::Engine(connect(host, spec.engine).await?)),
        EngineChoice::Auto if wants_container => {
            let engine = connect(host, spec.engine).await?;
            let facts = engine.facts();
            events
                .note(format!(
                    "using {}, the first engine that answered ({})",
                    facts.describe(),
                    facts.found_by
                ))
                .await;
            Ok(Runner::Engine(engine))
        }
        EngineChoice::Auto => {
            if store.container(&spec.session).await.is_some()
                && let Ok(engine) = connect(host, spec.engine).await
                && let Ok(Some(container)) = engine
                    .container(&ownership::name(&host.user, &spec.session))
                    .await
            {
                events
                    .note(format!(
                        "using this session's container {} on {}",
                        container.name,
                        engine.facts().describe()
                    ))
                    .await;
                return Ok(Runner::Engine(engine));
            }
            events
                .note("no image was named, so Jupyter runs as a process of the host (`--image` runs it in a container)")
                .await;
            Ok(Runner::Process)
        }
    }
}

async fn connect(host: &HostContext, choice: EngineChoice) -> Result<Arc<dyn ContainerEngine>, Failure> {
    let config = host
        .docker_config
        .clone()
        .unwrap_or_else(|| host.home.join(".docker"));
    let surroundings = Settings {
        docker_host: host.docker_host.as_deref(),
        docker_config: &config,
        runtime_dir: host
            .xdg_runtime_dir
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("/run/user/{}", host.uid))),
    };
    let candidates = socket::candidates(choice, &surroundings).map_err(|address| {
        fail(
            FailureKind::EngineMissing,
            "the container engine is not on this host",
            format!("your Docker settings on the host name `{address}`"),
            "jq needs an engine's Unix socket there: unset DOCKER_HOST or use another docker context",
        )
    })?;
    match Docker::connect(&candidates, &config).await {
        Ok(docker) => Ok(Arc::new(docker)),
        Err(error) => {
            let mut failure = failure(host, choice, &error);
            failure
                .hint
                .push_str("; `--engine process` runs Jupyter without containers");
            Err(failure)
        }
    }
}

/// The failure when there is no usable engine.
fn failure(host: &HostContext, choice: EngineChoice, error: &ConnectError) -> Failure {
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
            "start it: `sudo systemctl start docker`, or `systemctl --user start docker` for a rootless one",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::fixtures::host;

    #[test]
    fn each_kind_of_missing_engine_is_explained() {
        let socket = || PathBuf::from("/var/run/docker.sock");
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
                ConnectError::Missing(Some(socket())),
                FailureKind::EngineStopped,
                "DOCKER_HOST",
            ),
        ] {
            let failure = failure(&host(), EngineChoice::Auto, &error);
            assert_eq!(failure.kind, kind);
            assert!(failure.hint.contains(word), "{}", failure.hint);
        }
    }

    #[tokio::test]
    async fn an_engine_elsewhere_is_refused() {
        let mut host = host();
        host.docker_host = Some("ssh://box".into());
        let failure = connect(&host, EngineChoice::Docker).await.err().unwrap();
        assert_eq!(failure.kind, FailureKind::EngineMissing);
        assert!(failure.why.contains("ssh://box"));
    }
}
