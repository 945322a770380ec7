//! Sockets where a container engine may listen, in the order in which the user's own tools would try them.

use std::path::{Path, PathBuf};

use jq_common::protocol::workload::EngineChoice;

use super::docker_config::{DockerConfig, context_address, named_context};

/// A socket where an engine may listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The Unix socket.
    pub(crate) socket: PathBuf,
    /// How it was found, for the user.
    pub(crate) found_by: String,
    /// The user named it; no other is tried.
    pub(crate) named: bool,
}

/// Settings that decide where to look; the caller reads them from the user's environment.
pub(crate) struct Settings<'a> {
    pub(crate) docker_host: Option<&'a str>,
    pub(crate) docker_context: Option<&'a str>,
    pub(crate) docker_config: &'a Path,
    pub(crate) runtime_dir: PathBuf,
}

/// Why the engine that the user's settings name cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is reached over a network: the setting, and its address.
    Elsewhere(Setting, String),
    /// There is no context of this name.
    NoContext(String),
}

/// What names an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// `DOCKER_HOST`.
    Host,
    /// The docker context of this name.
    Context(String),
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => f.write_str("DOCKER_HOST"),
            Self::Context(name) => write!(f, "docker context {name}"),
        }
    }
}

/// The sockets to try for `choice`, best first. `DOCKER_HOST` counts more than `DOCKER_CONTEXT`, and that more than the
/// context that `docker context use` chose. Reads files: blocks.
///
/// # Errors
/// When the settings name an engine that is not a Unix socket of this host.
pub(crate) fn candidates(choice: EngineChoice, from: &Settings) -> Result<Vec<Candidate>, Unusable> {
    let docker = matches!(choice, EngineChoice::Auto | EngineChoice::Docker);
    let podman = matches!(choice, EngineChoice::Auto | EngineChoice::Podman);
    if let Some(host) = from.docker_host.filter(|host| !host.is_empty()) {
        if docker || host.contains("podman") {
            return Ok(vec![named(Setting::Host, host.to_owned())?]);
        }
    } else if docker && let Some(name) = context_in_use(from) {
        let address =
            context_address(from.docker_config, &name).ok_or_else(|| Unusable::NoContext(name.clone()))?;
        return Ok(vec![named(Setting::Context(name), address)?]);
    }
    let mut found = Vec::new();
    let mut add = |socket: PathBuf, found_by: &str| {
        found.push(Candidate {
            socket,
            found_by: found_by.to_owned(),
            named: false,
        });
    };
    if docker {
        add("/var/run/docker.sock".into(), "default socket");
        add(from.runtime_dir.join("docker.sock"), "rootless Docker");
    }
    if podman {
        add(from.runtime_dir.join("podman/podman.sock"), "rootless Podman");
        add("/run/podman/podman.sock".into(), "Podman");
    }
    Ok(found)
}

fn named(setting: Setting, address: String) -> Result<Candidate, Unusable> {
    match local(&address) {
        Some(socket) => Ok(Candidate {
            socket,
            found_by: setting.to_string(),
            named: true,
        }),
        None => Err(Unusable::Elsewhere(setting, address)),
    }
}

/// The path in a `unix://` address.
fn local(address: &str) -> Option<PathBuf> {
    let path = address.strip_prefix("unix://").unwrap_or(address);
    path.starts_with('/').then(|| path.into())
}

/// The name of the docker context in use; none for the default one.
fn context_in_use(from: &Settings) -> Option<String> {
    match from.docker_context.filter(|name| !name.is_empty()) {
        Some(name) => named_context(name).map(str::to_owned),
        None => DockerConfig::read(from.docker_config).current_context(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::engine::docker_config::tests::add_context;

    fn settings<'a>(
        docker_host: Option<&'a str>,
        docker_context: Option<&'a str>,
        config: &'a Path,
    ) -> Settings<'a> {
        Settings {
            docker_host,
            docker_context,
            docker_config: config,
            runtime_dir: "/run/user/7".into(),
        }
    }

    fn sockets(choice: EngineChoice, from: &Settings) -> Result<Vec<String>, Unusable> {
        let found = candidates(choice, from)?.into_iter();
        Ok(found.map(|found| found.socket.display().to_string()).collect())
    }

    #[test]
    fn the_default_sockets_in_their_order() {
        let none = settings(None, None, Path::new("/nonexistent"));
        assert_eq!(
            sockets(EngineChoice::Auto, &none).unwrap(),
            [
                "/var/run/docker.sock",
                "/run/user/7/docker.sock",
                "/run/user/7/podman/podman.sock",
                "/run/podman/podman.sock"
            ]
        );
        assert_eq!(
            sockets(EngineChoice::Docker, &none).unwrap(),
            ["/var/run/docker.sock", "/run/user/7/docker.sock"]
        );
        assert_eq!(sockets(EngineChoice::Podman, &none).unwrap().len(), 2);
    }

    #[test]
    fn an_address_that_the_user_named_is_the_only_candidate() {
        let with = |host| settings(Some(host), None, Path::new("/nonexistent"));
        let only = sockets(EngineChoice::Auto, &with("unix:///tmp/eng.sock")).unwrap();
        assert_eq!(only, ["/tmp/eng.sock"]);
        let away = sockets(EngineChoice::Auto, &with("tcp://10.0.0.1:2375"));
        let address = "tcp://10.0.0.1:2375".to_owned();
        assert_eq!(away, Err(Unusable::Elsewhere(Setting::Host, address)));
        let podman = sockets(EngineChoice::Podman, &with("unix:///var/run/docker.sock"));
        assert_eq!(podman.unwrap().len(), 2);
    }

    #[test]
    fn the_docker_context_in_use_is_followed_as_docker_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path();
        fs::write(config.join("config.json"), r#"{"currentContext":"rootless"}"#).unwrap();
        add_context(config, "rootless", "unix:///run/user/7/docker.sock");
        add_context(config, "lab", "unix:///srv/lab.sock");
        add_context(config, "far", "ssh://ada@far");
        add_context(config, "tls", "tcp://far:2376");
        let with = |host, context| sockets(EngineChoice::Auto, &settings(host, context, config));
        assert_eq!(with(None, None).unwrap(), ["/run/user/7/docker.sock"]);
        assert_eq!(with(None, Some("lab")).unwrap(), ["/srv/lab.sock"]);
        assert_eq!(
            with(None, Some("default")).unwrap().len(),
            4,
            "the default sockets"
        );
        assert_eq!(with(Some("unix:///x.sock"), Some("lab")).unwrap(), ["/x.sock"]);
        for (name, address) in [("far", "ssh://ada@far"), ("tls", "tcp://far:2376")] {
            let elsewhere = Unusable::Elsewhere(Setting::Context(name.into()), address.into());
            assert_eq!(with(None, Some(name)), Err(elsewhere));
        }
        assert_eq!(with(None, Some("gone")), Err(Unusable::NoContext("gone".into())));
        let podman = sockets(EngineChoice::Podman, &settings(None, Some("far"), config));
        assert_eq!(podman.unwrap().len(), 2, "Podman has no docker context");
    }
}
