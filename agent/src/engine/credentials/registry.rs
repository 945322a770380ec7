//! Which registry an image comes from, and by which names the files of credentials know it. Pure.

use serde_json::Value;

use crate::engine::EngineKind;

/// Docker Hub, by the name that images have.
const HUB: &str = "docker.io";

/// Docker Hub, by the name that `docker login` writes.
const HUB_ADDRESS: &str = "https://index.docker.io/v1/";

/// A registry.
pub(super) struct Registry {
    /// Its name, as `docker login` takes it.
    pub(super) name: String,
    /// By which a helper is asked for it.
    pub(super) server: String,
    /// The keys that an entry for it may have, the most specific one first: `quay.io/team/image`, `quay.io/team`,
    /// `quay.io`.
    keys: Vec<String>,
}

impl Registry {
    /// The registry of an image reference.
    pub(super) fn of(reference: &str, kind: EngineKind) -> Self {
        let (name, rest) = match reference.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => (HUB, reference),
        };
        let name = if is_hub(name) { HUB } else { name };
        let server = match kind {
            EngineKind::Docker if name == HUB => HUB_ADDRESS,
            EngineKind::Docker | EngineKind::Podman => name,
        };
        let repository = rest.split(['@', ':']).next().unwrap_or_default();
        let mut keys = vec![format!("{name}/{repository}")];
        while let Some((shorter, _)) = keys[keys.len() - 1].rsplit_once('/') {
            keys.push(shorter.to_owned());
        }
        Self {
            name: name.to_owned(),
            server: server.to_owned(),
            keys,
        }
    }

    /// The most specific entry for it in `list`, an object whose keys are registries.
    pub(super) fn entry<'a>(&self, list: &'a Value) -> Option<&'a Value> {
        let list = list.as_object()?;
        let find = |wanted: &String| list.iter().find(|(key, _)| normal(key) == *wanted);
        self.keys.iter().find_map(find).map(|(_, entry)| entry)
    }
}

fn is_hub(name: &str) -> bool {
    matches!(name, HUB | "index.docker.io" | "registry-1.docker.io")
}

/// A key without scheme, and without what `docker login` adds to the address of a registry.
fn normal(key: &str) -> String {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://");
    let bare = bare.trim_end_matches('/');
    let bare = bare
        .strip_suffix("/v1")
        .or_else(|| bare.strip_suffix("/v2"))
        .unwrap_or(bare);
    if is_hub(bare) { HUB.into() } else { bare.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_by_every_name_that_tools_write_for_a_registry() {
        for (reference, key) in [
            ("quay.io/jupyter/base", "quay.io"),
            ("quay.io/jupyter/base:1", "https://quay.io"),
            ("quay.io/jupyter/base@sha256:0", "https://quay.io/v2/"),
            ("quay.io/team/image:1", "quay.io/team"),
            ("localhost:5000/x", "localhost:5000"),
            ("jupyter/base", "https://index.docker.io/v1/"),
            ("ubuntu:24.04", "docker.io"),
            ("docker.io/library/ubuntu", "index.docker.io"),
        ] {
            let registry = Registry::of(reference, EngineKind::Docker);
            let list = serde_json::json!({ "other.example": 1, key: 2 });
            assert_eq!(registry.entry(&list), Some(&2.into()), "{reference} {key}");
        }
        let registry = Registry::of("quay.io/team/image", EngineKind::Podman);
        let list = serde_json::json!({ "quay.io": 1, "quay.io/team": 2, "quay.io/tea": 3 });
        assert_eq!(registry.entry(&list), Some(&2.into()), "the most specific one");
        assert_eq!(registry.entry(&Value::Null), None);
    }

    #[test]
    fn a_helper_is_asked_as_each_tool_asks_it() {
        let server = |reference, kind| Registry::of(reference, kind).server;
        assert_eq!(server("ubuntu", EngineKind::Docker), HUB_ADDRESS);
        assert_eq!(server("ubuntu", EngineKind::Podman), HUB);
        assert_eq!(server("gcr.io/p/i", EngineKind::Docker), "gcr.io");
    }
}
