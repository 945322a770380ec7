//! The user's credentials for a registry: from the files of `docker login` and `podman login`, and from credential
//! helpers, which are programs that may take long.
//!
//! Sources: docker-login(1), containers-auth.json(5), the protocol of docker-credential-helpers.

mod credential;
mod helper;
mod registry;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use docker_credential::DockerCredential;
use serde_json::{Value, json};

pub(crate) use self::credential::{Credential, Secret};
use self::registry::Registry;
use super::EngineKind;
use crate::run_blocking::run_blocking;

/// The result of a search for credentials.
#[derive(Default)]
pub(crate) struct Found {
    /// The registry, as `docker login` and `podman login` take it.
    pub(crate) registry: String,
    /// The credentials; none when there are none: many images need none.
    pub(crate) credential: Option<Credential>,
    /// Why a credential helper gave none, for the user.
    pub(crate) problem: Option<String>,
}

/// The files that may have credentials, the first one first.
///
/// # Arguments
/// `docker_config` is the folder of `config.json`, `auth_file` is `REGISTRY_AUTH_FILE`.
pub(crate) fn files(
    kind: EngineKind,
    docker_config: &Path,
    auth_file: Option<&Path>,
    runtime_dir: &Path,
    home: &Path,
) -> Vec<PathBuf> {
    let of_docker = docker_config.join("config.json");
    match (kind, auth_file) {
        (EngineKind::Docker, _) => vec![of_docker],
        (EngineKind::Podman, Some(file)) => vec![file.to_owned()],
        (EngineKind::Podman, None) => vec![
            runtime_dir.join("containers/auth.json"),
            home.join(".config/containers/auth.json"),
            of_docker,
        ],
    }
}

/// Finds the credentials for the registry of an image in `files`, with helpers from the directories of `path`.
pub(crate) async fn find(kind: EngineKind, files: Vec<PathBuf>, path: &OsStr, reference: &str) -> Found {
    let registry = Registry::of(reference, kind);
    let mut found = Found {
        registry: registry.name.clone(),
        ..Found::default()
    };
    let read = run_blocking(move || files.iter().filter_map(|file| parse(file)).collect::<Vec<_>>());
    for config in read.await {
        if let Some(secret) = in_config(&config, &registry, path, &mut found.problem).await {
            found.problem = None;
            found.credential = Some(Credential {
                server: registry.server,
                secret,
            });
            break;
        }
    }
    found
}

fn parse(file: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// The secret in one file: of the registry's own helper, else in the file itself, else of the helper for all.
async fn in_config(
    config: &Value,
    registry: &Registry,
    path: &OsStr,
    problem: &mut Option<String>,
) -> Option<Secret> {
    let own = registry.entry(&config["credHelpers"]).and_then(Value::as_str);
    let general = config["credsStore"].as_str();
    for (helper, is_own) in [(own, true), (general, false)] {
        if let Some(name) = helper.filter(|name| !name.is_empty()) {
            match helper::get(name, &registry.server, path).await {
                Ok(Some(secret)) => return Some(secret),
                Ok(None) => {}
                Err(why) => *problem = Some(why),
            }
        }
        if is_own && let Some(secret) = registry.entry(&config["auths"]).and_then(written) {
            return Some(secret);
        }
    }
    None
}

/// The secret that an entry of `auths` has in it; none in one that only marks a registry as known to a helper.
fn written(entry: &Value) -> Option<Secret> {
    let file = json!({ "auths": { "registry": entry } }).to_string();
    match docker_credential::get_credential_from_reader(file.as_bytes(), "registry").ok()? {
        DockerCredential::IdentityToken(token) => (!token.is_empty()).then_some(Secret::Token(token)),
        DockerCredential::UsernamePassword(user, password) => Some(Secret::Password { user, password }),
    }
}

#[cfg(test)]
mod tests;
