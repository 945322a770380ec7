//! Connects to an engine as the user's own tools would.

use std::sync::Arc;

use jq_common::protocol::workload::{EngineChoice, Failure};

use super::failure;
use crate::{
    engine::{
        ContainerEngine,
        docker::Docker,
        socket::{self, Candidate, Settings},
    },
    run_blocking::run_blocking,
    workload::HostContext,
};

/// The sockets to try for `choice`.
///
/// # Errors
/// When the user's settings name an engine that cannot be used.
pub(super) async fn candidates(host: &HostContext, choice: EngineChoice) -> Result<Vec<Candidate>, Failure> {
    let (docker_host, docker_context) = (host.docker_host.clone(), host.docker_context.clone());
    let (docker_config, runtime_dir) = (host.docker_config(), host.runtime_dir());
    let found = run_blocking(move || {
        let settings = Settings {
            docker_host: docker_host.as_deref(),
            docker_context: docker_context.as_deref(),
            docker_config: &docker_config,
            runtime_dir,
        };
        socket::candidates(choice, &settings)
    });
    found.await.map_err(|why| failure::unusable(&why))
}

/// Connects to the first engine that answers.
///
/// # Errors
/// Why there is none.
pub(super) async fn connect(
    host: &HostContext,
    choice: EngineChoice,
) -> Result<Arc<dyn ContainerEngine>, Failure> {
    let config = host.docker_config();
    match Docker::connect(&candidates(host, choice).await?, &config).await {
        Ok(docker) => Ok(Arc::new(docker)),
        Err(error) => Err(or_without(failure::not_connected(host, choice, &error))),
    }
}

/// Adds to the hint that containers are not needed.
fn or_without(mut failure: Failure) -> Failure {
    failure
        .hint
        .push_str("; `--engine process` runs Jupyter without containers");
    failure
}

#[cfg(test)]
mod tests {
    use jq_common::protocol::workload::FailureKind;

    use super::*;
    use crate::workload::fixtures::host;

    #[tokio::test]
    async fn an_engine_elsewhere_is_refused() {
        let mut host = host();
        host.docker_host = Some("ssh://box".into());
        let failure = connect(&host, EngineChoice::Docker).await.err().unwrap();
        assert_eq!(failure.kind, FailureKind::EngineMissing);
        assert!(failure.why.contains("ssh://box"));
    }
}
