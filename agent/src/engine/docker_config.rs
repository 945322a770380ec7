//! The user's settings of the `docker` command: `config.json` in its folder, and its contexts. A file that cannot be read
//! or understood counts as empty, as it does for `docker`.
//!
//! Sources: docker(1), docker-context(1), "Configure the Docker CLI to use a proxy server" of Docker's manual.

use std::{fs, path::Path};

use jq_common::protocol::hex;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The context that stands for the default socket.
const DEFAULT_CONTEXT: &str = "default";

/// The variable of each setting of a proxy.
const PROXY_VARIABLES: [(&str, &str); 5] = [
    ("httpProxy", "HTTP_PROXY"),
    ("httpsProxy", "HTTPS_PROXY"),
    ("ftpProxy", "FTP_PROXY"),
    ("noProxy", "NO_PROXY"),
    ("allProxy", "ALL_PROXY"),
];

/// `config.json`.
pub(crate) struct DockerConfig(Value);

impl DockerConfig {
    /// Reads the file in the folder `dir`. Blocks.
    pub(crate) fn read(dir: &Path) -> Self {
        let text = fs::read(dir.join("config.json")).unwrap_or_default();
        Self(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// The name of the context in use; none for the default one.
    pub(super) fn current_context(&self) -> Option<String> {
        self.0["currentContext"]
            .as_str()
            .and_then(named_context)
            .map(str::to_owned)
    }

    /// The variables by which a container of the engine at `socket` learns of the user's proxies, in upper and lower
    /// case. The entry of that engine counts, else the one named `default`.
    pub(super) fn proxies(&self, socket: &Path) -> Vec<(String, String)> {
        let all = &self.0["proxies"];
        let own = &all[format!("unix://{}", socket.display())];
        let chosen = if own.is_null() { &all["default"] } else { own };
        PROXY_VARIABLES
            .iter()
            .filter_map(|(key, name)| Some((*name, chosen[*key].as_str()?)))
            .filter(|(_, value)| !value.is_empty() && !value.contains('\0'))
            .flat_map(|(name, value)| {
                [name.to_owned(), name.to_lowercase()].map(|name| (name, value.to_owned()))
            })
            .collect()
    }
}

/// This name, unless it stands for no context.
pub(super) fn named_context(name: &str) -> Option<&str> {
    (!name.is_empty() && name != DEFAULT_CONTEXT).then_some(name)
}

#[derive(Deserialize)]
struct Meta {
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

/// The address of a context; None when there is no such context, or it has no engine. Blocks.
pub(super) fn context_address(dir: &Path, name: &str) -> Option<String> {
    let folder = hex::encode(&Sha256::digest(name));
    let meta = fs::read(dir.join("contexts/meta").join(folder).join("meta.json")).ok()?;
    let meta: Meta = serde_json::from_slice(&meta).ok()?;
    meta.endpoints.docker?.host
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes a context as `docker context create` does.
    pub(crate) fn add_context(dir: &Path, name: &str, address: &str) {
        let folder = dir.join("contexts/meta").join(hex::encode(&Sha256::digest(name)));
        fs::create_dir_all(&folder).unwrap();
        let meta = serde_json::json!({"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": address, "SkipTLSVerify": false}}});
        fs::write(folder.join("meta.json"), meta.to_string()).unwrap();
    }

    fn config(text: &str) -> DockerConfig {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), text).unwrap();
        DockerConfig::read(dir.path())
    }

    #[test]
    fn proxies_are_set_in_both_cases_and_an_engine_may_have_its_own() {
        let config = config(
            r#"{"proxies": {
                "default": {"httpProxy": "http://p:3128", "noProxy": "localhost,.lan", "ftpProxy": ""},
                "unix:///run/own.sock": {"allProxy": "socks5://p"}
            }}"#,
        );
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            config.proxies(Path::new("/var/run/docker.sock")),
            [
                pair("HTTP_PROXY", "http://p:3128"),
                pair("http_proxy", "http://p:3128"),
                pair("NO_PROXY", "localhost,.lan"),
                pair("no_proxy", "localhost,.lan"),
            ]
        );
        assert_eq!(
            config.proxies(Path::new("/run/own.sock")),
            [pair("ALL_PROXY", "socks5://p"), pair("all_proxy", "socks5://p")]
        );
    }

    #[test]
    fn a_config_that_is_missing_or_odd_is_empty() {
        let missing = DockerConfig::read(Path::new("/nonexistent"));
        for config in [
            missing,
            config("{"),
            config("[]"),
            config(r#"{"proxies": 7, "currentContext": 7}"#),
        ] {
            assert!(config.proxies(Path::new("/x")).is_empty());
            assert_eq!(config.current_context(), None);
        }
        assert_eq!(config(r#"{"currentContext": "default"}"#).current_context(), None);
    }
}
