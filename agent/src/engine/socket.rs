//! Sockets where a container engine may listen, in the order in which the user's own tools would try them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jq_common::protocol::workload::EngineChoice;
use serde::Deserialize;

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
    pub(crate) docker_config: &'a Path,
    pub(crate) runtime_dir: PathBuf,
}

/// The sockets to try for `choice`, best first.
///
/// # Errors
/// An address (`tcp://…`) that the user named and that is no Unix socket.
pub(crate) fn candidates(choice: EngineChoice, from: &Settings) -> Result<Vec<Candidate>, String> {
    let docker = matches!(choice, EngineChoice::Auto | EngineChoice::Docker);
    let podman = matches!(choice, EngineChoice::Auto | EngineChoice::Podman);
    let mut found = Vec::new();
    let mut add = |socket: PathBuf, found_by: &str, named| {
        found.push(Candidate {
            socket,
            found_by: found_by.to_owned(),
            named,
        });
    };
    if let Some(host) = from.docker_host.filter(|host| !host.is_empty()) {
        if docker || host.contains("podman") {
            add(local(host)?, "DOCKER_HOST", true);
            return Ok(found);
        }
    } else if docker && let Some((name, host)) = context(from.docker_config) {
        add(local(&host)?, &format!("docker context {name}"), true);
        return Ok(found);
    }
    if docker {
        add("/var/run/docker.sock".into(), "default socket", false);
        add(from.runtime_dir.join("docker.sock"), "rootless Docker", false);
    }
    if podman {
        add(
            from.runtime_dir.join("podman/podman.sock"),
            "rootless Podman",
            false,
        );
        add("/run/podman/podman.sock".into(), "Podman", false);
    }
    Ok(found)
}

/// The path in a `unix://` address.
fn local(host: &str) -> Result<PathBuf, String> {
    match host.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => Ok(path.into()),
        None if host.starts_with('/') => Ok(host.into()),
        _ => Err(host.to_owned()),
    }
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host")]
    host: Option<String>,
}

/// Name and address of the current docker context. None for the default context, or when its files cannot be read.
fn context(docker_config: &Path) -> Option<(String, String)> {
    let config: Config = serde_json::from_slice(&fs::read(docker_config.join("config.json")).ok()?).ok()?;
    let current = config
        .current_context
        .filter(|name| !name.is_empty() && name != "default")?;
    let metas = fs::read_dir(docker_config.join("contexts/meta")).ok()?;
    metas
        .filter_map(|folder| fs::read(folder.ok()?.path().join("meta.json")).ok())
        .filter_map(|meta| serde_json::from_slice::<Meta>(&meta).ok())
        .find(|meta| meta.name == current)
        .and_then(|meta| Some((meta.name, meta.endpoints.docker?.host?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(choice: EngineChoice, docker_host: Option<&str>, config: &Path) -> Result<Vec<String>, String> {
        let from = Settings {
            docker_host,
            docker_config: config,
            runtime_dir: "/run/user/7".into(),
        };
        Ok(candidates(choice, &from)?
            .into_iter()
            .map(|found| found.socket.display().to_string())
            .collect())
    }

    #[test]
    fn the_default_sockets_in_their_order() {
        let none = Path::new("/nonexistent");
        assert_eq!(
            look(EngineChoice::Auto, None, none).unwrap(),
            [
                "/var/run/docker.sock",
                "/run/user/7/docker.sock",
                "/run/user/7/podman/podman.sock",
                "/run/podman/podman.sock"
            ]
        );
        assert_eq!(
            look(EngineChoice::Docker, None, none).unwrap(),
            ["/var/run/docker.sock", "/run/user/7/docker.sock"]
        );
        assert_eq!(look(EngineChoice::Podman, None, none).unwrap().len(), 2);
    }

    #[test]
    fn an_address_that_the_user_named_is_the_only_candidate() {
        let none = Path::new("/nonexistent");
        let only = look(EngineChoice::Auto, Some("unix:///tmp/eng.sock"), none).unwrap();
        assert_eq!(only, ["/tmp/eng.sock"]);
        let away = look(EngineChoice::Auto, Some("tcp://10.0.0.1:2375"), none);
        assert_eq!(away.unwrap_err(), "tcp://10.0.0.1:2375");
        let podman = look(EngineChoice::Podman, Some("unix:///var/run/docker.sock"), none);
        assert_eq!(podman.unwrap().len(), 2);
    }

    #[test]
    fn the_docker_context_in_use_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), r#"{"currentContext":"rootless"}"#).unwrap();
        let meta = dir.path().join("contexts/meta/abc");
        fs::create_dir_all(&meta).unwrap();
        let text = r#"{"Name":"rootless","Endpoints":{"docker":{"Host":"unix:///run/user/7/docker.sock"}}}"#;
        fs::write(meta.join("meta.json"), text).unwrap();
        assert_eq!(
            look(EngineChoice::Auto, None, dir.path()).unwrap(),
            ["/run/user/7/docker.sock"]
        );
    }
}
