//! Gateways that pass connections on but run no commands, kept from run to run: a shell that has not answered once is not
//! waited for the next time.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use jq_common::private_files;

use crate::ssh::SshHost;

/// How long a refusal is believed: the gateway may be changed.
const BELIEVED: Duration = Duration::from_secs(24 * 3600);

/// Limit of gateways that are remembered.
const MOST: usize = 64;

/// The file that holds the refusals of all gateways.
pub(super) struct Refusals(PathBuf);

/// When each gateway refused, in seconds since 1970.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct File {
    without_shell: BTreeMap<String, u64>,
}

impl Refusals {
    /// The refusals that are kept in the folder `state`.
    pub(super) fn new(state: &Path) -> Self {
        Self(state.join("gateways.toml"))
    }

    /// Whether `gateway` has refused within the last day.
    pub(super) fn has(&self, gateway: &SshHost) -> bool {
        self.has_since(&name(gateway), SystemTime::now())
    }

    /// Remembers that `gateway` has refused. If that fails, it is asked again the next time.
    pub(super) fn add(&self, gateway: &SshHost) {
        self.add_at(name(gateway), SystemTime::now());
    }

    /// `gateway` runs commands after all.
    pub(super) fn remove(&self, gateway: &SshHost) {
        let mut file = self.load();
        if file.without_shell.remove(&name(gateway)).is_some() {
            self.save(&file);
        }
    }

    fn has_since(&self, name: &str, now: SystemTime) -> bool {
        let at = self.load().without_shell.get(name).copied();
        // A clock that was set back has no effect but one more attempt.
        at.and_then(|at| seconds(now).checked_sub(at))
            .is_some_and(|age| age < BELIEVED.as_secs())
    }

    fn add_at(&self, name: String, now: SystemTime) {
        let mut file = self.load();
        let now = seconds(now);
        file.without_shell
            .retain(|_, at| now.checked_sub(*at).is_some_and(|age| age < BELIEVED.as_secs()));
        if file.without_shell.len() < MOST {
            file.without_shell.insert(name, now);
        }
        self.save(&file);
    }

    fn save(&self, file: &File) {
        let saved = toml::to_string(file)
            .map_err(std::io::Error::other)
            .and_then(|text| private_files::replace(&self.0, text.as_bytes()));
        if let Err(error) = saved {
            tracing::info!(%error, "the refusals of gateways are not kept");
        }
    }

    fn load(&self) -> File {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        toml::from_str(&text).unwrap_or_default()
    }
}

/// A name that stays the same for the same login on the same gateway.
fn name(gateway: &SshHost) -> String {
    let resolved = &gateway.hop().resolved;
    format!("{}@{}:{}", resolved.user, resolved.hostname, resolved.port)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_remembered_for_a_day() {
        let state = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        Refusals::new(state.path()).add_at("ana@gw:22".to_owned(), now);
        let refusals = Refusals::new(state.path());
        assert!(refusals.has_since("ana@gw:22", now));
        assert!(!refusals.has_since("bo@gw:22", now));
        assert!(!refusals.has_since("ana@gw:22", now + BELIEVED));
        assert!(!refusals.has_since("ana@gw:22", now - Duration::from_secs(3600)));
    }

    #[test]
    fn a_damaged_file_and_too_many_gateways_do_no_harm() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("gateways.toml"), "without_shell = 3").unwrap();
        let refusals = Refusals::new(state.path());
        let now = SystemTime::now();
        for number in 0..2 * MOST {
            refusals.add_at(format!("ana@gw{number}:22"), now);
        }
        assert_eq!(refusals.load().without_shell.len(), MOST);
    }
}
