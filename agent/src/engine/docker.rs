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

use super::{ContainerEngine, EngineError, EngineFacts, EngineKind, socket::Candidate};

/// Time limit for an engine to identify itself.
const GREETING: Duration = Duration::from_secs(10);

/// Time limit for the headers of a response, in seconds. A start with hooks on a busy disk may take long; the bodies of
/// streams are not limited.
const HEADERS: u64 = 300;

/// A connection to an engine.
pub(crate) struct Docker {
    client: Client,
    facts: EngineFacts,
    /// The folder with the user's `config.json`, for registry credentials.
    config: PathBuf,
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
    /// Connects to the first of `candidates` that answers.
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
            match Self::try_one(candidate, config).await {
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

    async fn try_one(candidate: &Candidate, config: &Path) -> Result<Self, ConnectError> {
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
        let owner = std::fs::metadata(socket).map_or(0, |metadata| metadata.uid());
        Ok(Self {
            client,
            facts: facts(candidate, owner, &version, info),
            config: config.to_owned(),
        })
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
    EngineFacts {
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
        rootless: secured("name=rootless") || socket_owner != 0,
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
    }
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

    #[test]
    fn podman_and_rootless_are_recognised() {
        let version: models::SystemVersion = serde_json::from_str(
            r#"{"Version":"4.9.3","ApiVersion":"1.41","Components":[{"Name":"Podman Engine","Version":"4.9.3"}]}"#,
        )
        .unwrap();
        let at = candidate(Path::new("/run/user/7/podman/podman.sock"), false);
        let podman = facts(&at, 7, &version, models::SystemInfo::default());
        assert_eq!((podman.kind, podman.rootless), (EngineKind::Podman, true));
        assert_eq!(podman.version_pair(), (4, 9));
    }
}
