//! What of a login counts for the agent that works on its behalf, and how two logins differ. Pure.
//!
//! An agent outlives the login that started it, for a day by default. What it starts has its groups, limits, umask and
//! environment, which would then be those of yesterday. So each bootstrap compares its own login, which is what a fresh
//! `ssh HOST` gives, with the agent's, and where they differ a successor is started from the fresh one.
//!
//! The machine is part of it in another way: the folders of an agent belong to one machine, so that a login on another one finds
//! none.
//!
//! The list names what counts, and not what does not: what changes with every login (`SSH_CONNECTION`, `XDG_SESSION_ID`, a
//! shell's own counters) would replace the agent each time for nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::protocol::hex;

/// What a login gives to what is started in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The primary group (getegid(2)): it owns new files.
    #[serde(default)]
    pub group: u32,
    /// All groups (getgroups(2)), ascending: they open the engine's socket and shared folders.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// The umask (umask(2)): what is started creates files with it. None when it is not known.
    #[serde(default)]
    pub umask: Option<u32>,
    /// Hard limits by name (getrlimit(2)); None for unlimited. Soft limits are a program's own matter.
    #[serde(default)]
    pub limits: BTreeMap<String, Option<u64>>,
    /// The variables of the environment that [count](counts) and are set, with a [digest] of each value: values may be long,
    /// and may be secrets, such as a proxy's password.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// Variables that count. A `*` at the end stands for any ending.
const VARIABLES: [&str; 58] = [
    // Which engine is used, and how it is spoken to (docker(1), podman(1)).
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_API_VERSION",
    "DOCKER_DEFAULT_PLATFORM",
    "CONTAINER_HOST",
    "CONTAINER_CONNECTION",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "REGISTRY_AUTH_FILE",
    // Where sockets, configuration, data and temporary files are (XDG Base Directory Specification).
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "TMPDIR",
    // How the network is reached; programs read either case.
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    // Which programs and libraries are found: Jupyter, nvidia-smi, the engine's helpers.
    "PATH",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "CONDA_*",
    "MAMBA_*",
    "MODULEPATH",
    "LOADEDMODULES",
    "JUPYTER_*",
    "IPYTHONDIR",
    "PIP_*",
    "UV_*",
    // Which GPUs the user is given.
    "CUDA_*",
    "NVIDIA_*",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    // Language, time and the user.
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "HOME",
    "USER",
    "SHELL",
    // Tickets that open a home on the network (kerberos(7)): those of an earlier login expire, or go with it.
    "KRB5CCNAME",
];

/// Whether a variable of the environment counts.
#[must_use]
pub fn counts(name: &str) -> bool {
    VARIABLES.iter().any(|known| match known.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *known,
    })
}

/// Stands for a value of a variable.
#[must_use]
pub fn digest(value: &[u8]) -> String {
    hex::encode(&Sha256::digest(value)[..8])
}

impl Login {
    /// The names of what differs in `fresh`, for messages and logs.
    #[must_use]
    pub fn differences(&self, fresh: &Self) -> Vec<String> {
        let mut differs = Vec::new();
        if (self.group, &self.groups) != (fresh.group, &fresh.groups) {
            differs.push("groups".to_owned());
        }
        if self.umask != fresh.umask {
            differs.push("umask".to_owned());
        }
        if self.limits != fresh.limits {
            differs.push("limits".to_owned());
        }
        let names: BTreeSet<_> = self.environment.keys().chain(fresh.environment.keys()).collect();
        differs.extend(
            names
                .into_iter()
                .filter(|name| self.environment.get(*name) != fresh.environment.get(*name))
                .cloned(),
        );
        differs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login {
            group: 1000,
            groups: vec![1000],
            umask: Some(0o022),
            limits: BTreeMap::from([("nofile".to_owned(), Some(1024))]),
            environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin".to_owned())]),
        }
    }

    fn with(change: impl FnOnce(&mut Login)) -> Vec<String> {
        let mut fresh = login();
        change(&mut fresh);
        login().differences(&fresh)
    }

    #[test]
    fn a_login_differs_in_what_was_changed_and_in_nothing_else() {
        let set = |name: &str, value: &str| {
            let (name, value) = (name.to_owned(), value.to_owned());
            with(move |fresh| {
                fresh.environment.insert(name, value);
            })
        };
        assert_eq!(with(|_| {}), [""; 0]);
        assert_eq!(with(|fresh| fresh.groups.push(999)), ["groups"]);
        assert_eq!(with(|fresh| fresh.group = 100), ["groups"]);
        assert_eq!(with(|fresh| fresh.umask = Some(0o077)), ["umask"]);
        assert_eq!(with(|fresh| fresh.umask = None), ["umask"]);
        assert_eq!(with(|fresh| fresh.limits.clear()), ["limits"]);
        assert_eq!(with(|fresh| fresh.environment.clear()), ["PATH"]);
        assert_eq!(set("PATH", "/opt/bin"), ["PATH"]);
        assert_eq!(set("DOCKER_HOST", "unix:///run/docker.sock"), ["DOCKER_HOST"]);
    }

    #[test]
    fn what_every_login_has_anew_does_not_count() {
        for name in [
            "SSH_CONNECTION",
            "SSH_CLIENT",
            "SSH_AUTH_SOCK",
            "XDG_SESSION_ID",
            "SHLVL",
            "PWD",
            "OLDPWD",
            "_",
            "TERM",
            "",
            "LC",
            "PATHS",
        ] {
            assert!(!counts(name), "{name}");
        }
        for name in [
            "DOCKER_HOST",
            "LC_ALL",
            "CUDA_VISIBLE_DEVICES",
            "https_proxy",
            "PATH",
        ] {
            assert!(counts(name), "{name}");
        }
    }

    #[test]
    fn a_value_is_compared_and_cannot_be_read_back() {
        let secret = b"http://ada:hunter2@proxy";
        assert_eq!(digest(secret), digest(secret));
        assert_ne!(digest(secret), digest(b""));
        assert!(!digest(secret).contains("hunter2"));
    }

    proptest::proptest! {
        #[test]
        fn two_logins_differ_exactly_if_they_are_not_equal(
            umask in proptest::option::of(0_u32..2),
            groups in proptest::collection::vec(0_u32..3, 0..3),
            environment in proptest::collection::btree_map("[AB]", "[ab]", 0..3),
        ) {
            let one = Login { umask: Some(0), groups: vec![1], ..Login::default() };
            let other = Login { umask, groups, environment, ..Login::default() };
            proptest::prop_assert_eq!(one.differences(&other).is_empty(), one == other);
            proptest::prop_assert_eq!(one.differences(&other), other.differences(&one));
            let json = serde_json::to_string(&other).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<Login>(&json).unwrap(), other);
        }
    }
}
