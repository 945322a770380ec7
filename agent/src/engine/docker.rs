//! Docker Engine and Podman's Docker-compatible service, through their API socket.
//!
//! This file and its folder are the only ones that name bollard.

mod containers;
mod convert;
mod error;
mod exec;
mod images;
mod pull;

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{API_DEFAULT_VERSION, Docker as Client, models};
use tokio::{net::UnixStream, time::timeout};

use super::{
    ContainerEngine, EngineError, EngineFacts, EngineKind, docker_config::DockerConfig, socket::Candidate,
};
use crate::run_blocking::run_blocking;

/// Time limit for an engine to identify itself; a busy one takes many seconds.
const GREETING: Duration = Duration::from_secs(30);

/// Time limit for the headers of a response, in seconds. A start with hooks on a busy disk may take long; the bodies of
/// streams are not limited.
const HEADERS: u64 = 300;

/// A connection to an engine.
pub(crate) struct Docker {
    client: Client,
    facts: EngineFacts,
}

/// Why no engine could be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConnectError {
    /// No socket in any of the usual places, or not at the one that the user named.
    Missing(Option<PathBuf>),
    /// This user may not open the socket.
    Permission(PathBuf),
    /// The socket exists but nothing answers on it.
    Stopped(PathBuf, String),
}

impl Docker {
    /// Connects to the first of `candidates` that answers. `config` is the folder of the user's `config.json`.
    ///
    /// # Errors
    /// The most specific error: an engine that does not answer, then one that may not be used, then none at all.
    pub(crate) async fn connect(candidates: &[Candidate], config: &Path) -> Result<Self, ConnectError> {
        let named = candidates
            .iter()
            .find(|candidate| candidate.named)
            .map(|candidate| candidate.socket.clone());
        let mut nearest = ConnectError::Missing(named);
        for candidate in candidates {
            match Self::connect_to(candidate, config).await {
                Ok(docker) => return Ok(docker),
                Err(error) => {
                    tracing::debug!(socket = %candidate.socket.display(), ?error, "no engine at this socket");
                    if error.rank() > nearest.rank() {
                        nearest = error;
                    }
                }
            }
        }
        Err(nearest)
    }

    /// Connects to the engine at this socket.
    ///
    /// # Errors
    /// That there is no socket, that this user may not open it, or that nothing answers.
    pub(crate) async fn connect_to(candidate: &Candidate, config: &Path) -> Result<Self, ConnectError> {
        let socket = &candidate.socket;
        let stopped = |why: String| ConnectError::Stopped(socket.clone(), why);
        // A plain connect first, because bollard's error does not distinguish these cases.
        match timeout(GREETING, UnixStream::connect(socket)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                return Err(match error.kind() {
                    io::ErrorKind::NotFound => ConnectError::Missing(None),
                    io::ErrorKind::PermissionDenied => ConnectError::Permission(socket.clone()),
                    _ => stopped(error.to_string()),
                });
            }
            Err(_) => return Err(stopped("it accepts no connection".into())),
        }
        let greet = async {
            let path = socket.to_string_lossy();
            let client = Client::connect_with_unix(&path, HEADERS, API_DEFAULT_VERSION)?
                .negotiate_version()
                .await?;
            let (version, info) = (client.version().await?, client.info().await?);
            Ok::<_, bollard::errors::Error>((client, version, info))
        };
        let (client, version, info) = timeout(GREETING, greet)
            .await
            .map_err(|_| stopped("it accepts connections and does not answer".into()))?
            .map_err(|error| stopped(error.to_string()))?;
        let (path, config) = (socket.clone(), config.to_owned());
        let (owner, proxies) = run_blocking(move || {
            let owner = std::fs::metadata(&path).map_or(0, |metadata| metadata.uid());
            (owner, DockerConfig::read(&config).proxies(&path))
        })
        .await;
        let mut facts = facts(candidate, owner, &version, info);
        if facts.kind == EngineKind::Docker {
            // Podman's own command does not read them.
            facts.proxies = proxies;
        }
        Ok(Self { client, facts })
    }
}

impl ContainerEngine for Docker {
    fn facts(&self) -> &EngineFacts {
        &self.facts
    }
}

impl ConnectError {
    fn rank(&self) -> u8 {
        match self {
            Self::Missing(_) => 0,
            Self::Permission(_) => 1,
            Self::Stopped(..) => 2,
        }
    }
}

fn facts(
    candidate: &Candidate,
    socket_owner: u32,
    version: &models::SystemVersion,
    info: models::SystemInfo,
) -> EngineFacts {
    let podman = version
        .components
        .iter()
        .flatten()
        .find(|component| component.name.to_lowercase().contains("podman"));
    let security = info.security_options.unwrap_or_default();
    let secured = |name: &str| {
        security
            .iter()
            .any(|option| option.split(',').any(|part| part == name))
    };
    let cdi_devices: Vec<String> = info
        .discovered_devices
        .into_iter()
        .flatten()
        .filter(|device| device.source.as_deref() == Some("cdi"))
        .filter_map(|device| device.id)
        .collect();
    let mut facts = EngineFacts {
        kind: if podman.is_some() {
            EngineKind::Podman
        } else {
            EngineKind::Docker
        },
        version: podman
            .map(|component| component.version.clone())
            .or_else(|| version.version.clone())
            .or(info.server_version)
            .unwrap_or_else(|| "of unknown version".into()),
        socket: candidate.socket.clone(),
        found_by: candidate.found_by.clone(),
        // Not by the socket's owner: an administrator may give a user the socket of an engine that runs as root.
        rootless: secured("name=rootless"),
        remapped: secured("name=userns"),
        memory: info
            .mem_total
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or(0),
        cdi: !cdi_devices.is_empty() || info.cdi_spec_dirs.is_some_and(|dirs| !dirs.is_empty()),
        cdi_devices,
        nvidia_runtime: info
            .runtimes
            .is_some_and(|runtimes| runtimes.contains_key("nvidia")),
        nvidia_by_default: info
            .default_runtime
            .is_some_and(|runtime| runtime.contains("nvidia")),
        selinux: secured("name=selinux"),
        no_new_privileges: secured("name=no-new-privileges"),
        proxies: Vec::new(),
    };
    if facts.kind == EngineKind::Podman && facts.version_pair() < (3, 1) {
        // Before that version, Podman does not say it.
        facts.rootless = socket_owner != 0;
    }
    facts
}

/// Converts bollard's error into ours.
fn engine_error(error: bollard::errors::Error) -> EngineError {
    use bollard::errors::Error;
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            error::classify(Some(status_code), message.trim())
        }
        Error::DockerStreamError { error } => error::classify(None, error.trim()),
        Error::RequestTimeoutError => EngineError::Lost("the engine did not answer in time".into()),
        other => EngineError::Lost(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(socket: &Path, named: bool) -> Candidate {
        Candidate {
            socket: socket.to_owned(),
            found_by: "test".into(),
            named,
        }
    }

    #[tokio::test]
    async fn a_missing_engine_and_one_that_does_not_answer_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let (missing, dead) = (dir.path().join("missing.sock"), dir.path().join("dead.sock"));
        // Bound and dropped: the file remains without a listener.
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());

        let none = Docker::connect(&[candidate(&missing, false)], dir.path()).await;
        assert_eq!(none.err(), Some(ConnectError::Missing(None)));
        let named = Docker::connect(&[candidate(&missing, true)], dir.path()).await;
        assert_eq!(named.err(), Some(ConnectError::Missing(Some(missing.clone()))));
        let both = [candidate(&missing, false), candidate(&dead, false)];
        let stopped = Docker::connect(&both, dir.path()).await;
        assert!(matches!(stopped.err(), Some(ConnectError::Stopped(socket, _)) if socket == dead));
    }

    fn facts_of(version: &str, info: &str, owner: u32) -> EngineFacts {
        let (version, info) = (serde_json::from_str(version), serde_json::from_str(info));
        let at = candidate(Path::new("/run/docker.sock"), false);
        facts(&at, owner, &version.unwrap(), info.unwrap())
    }

    const PODMAN: &str = r#"{"Version":"4.9.3","ApiVersion":"1.41","Components":[{"Name":"Podman Engine","Version":"4.9.3"}]}"#;
    const ROOTLESS: &str = r#"{"SecurityOptions":["name=seccomp,profile=default","name=rootless"]}"#;

    #[test]
    fn podman_is_recognised() {
        let podman = facts_of(PODMAN, ROOTLESS, 7);
        assert_eq!((podman.kind, podman.rootless), (EngineKind::Podman, true));
        assert_eq!(podman.version_pair(), (4, 9));
        let old = PODMAN.replace("4.9.3", "3.0.1");
        assert!(facts_of(&old, "{}", 7).rootless && !facts_of(&old, "{}", 0).rootless);
    }

    #[test]
    fn an_engine_is_rootless_when_it_says_so_and_not_by_the_owner_of_its_socket() {
        let docker = r#"{"Version":"20.10.24"}"#;
        assert!(
            !facts_of(
                docker,
                r#"{"SecurityOptions":["name=seccomp,profile=default"]}"#,
                7
            )
            .rootless
        );
        assert!(facts_of(docker, ROOTLESS, 0).rootless);
        assert!(!facts_of(PODMAN, "{}", 7).rootless);
    }

    #[test]
    fn what_an_engine_says_of_its_security_and_runtimes_is_known() {
        let info = r#"{"SecurityOptions":["name=selinux","name=userns","name=no-new-privileges"],
            "Runtimes":{"nvidia":{"path":"nvidia-container-runtime"}},"DefaultRuntime":"nvidia"}"#;
        let facts = facts_of(r#"{"Version":"28.5.2"}"#, info, 0);
        assert!(facts.selinux && facts.remapped && facts.no_new_privileges);
        assert!(facts.nvidia_runtime && facts.nvidia_by_default);
    }
}
