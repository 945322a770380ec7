//! Files of this client: the state of a session that is kept from run to run.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use jq_common::private_files;
use serde::{Deserialize, Serialize};

/// Longest path of a Unix socket in bytes: the shortest limit of a supported system (macOS, `sun_path` in unix(4)) is 104
/// with the final zero.
pub(crate) const SOCKET_PATH_LIMIT: usize = 103;

/// Where this client keeps its files.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// Files that are kept from run to run.
    pub(crate) state: PathBuf,
    /// Sockets; private.
    pub(crate) runtime: PathBuf,
}

impl Folders {
    /// The files of sessions.
    pub(crate) fn sessions(&self) -> PathBuf {
        self.state.join("sessions")
    }
}

/// The local ports of a session, so that the next run uses the same ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RememberedPorts {
    /// Local port of Jupyter.
    pub(crate) jupyter_port: Option<u16>,
    /// Local ports that `-L` got, by the port that was asked for: a forward whose port was taken stays where it went.
    pub(crate) moved_ports: BTreeMap<String, u16>,
}

/// The file that holds the [`RememberedPorts`] of one session.
pub(crate) struct PortsFile(PathBuf);

impl PortsFile {
    /// The file of the session `name`.
    pub(crate) fn new(folders: &Folders, name: &str) -> Self {
        Self(folders.sessions().join(format!("{name}.toml")))
    }

    /// Reads it. A missing or damaged file counts as empty.
    pub(crate) fn load(&self) -> RememberedPorts {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        toml::from_str(&text).unwrap_or_default()
    }

    /// Replaces it.
    ///
    /// # Errors
    /// As [`private_files::replace`].
    pub(crate) fn save(&self, remembered: &RememberedPorts) -> io::Result<()> {
        let text = toml::to_string(remembered).map_err(io::Error::other)?;
        private_files::replace(&self.0, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::golden::Golden;

    fn folders(below: &Path) -> Folders {
        Folders {
            state: below.to_owned(),
            runtime: below.to_owned(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_a_damaged_file_counts_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        let file = PortsFile::new(&folders(dir.path()), "gpu");
        assert_eq!(file.load(), RememberedPorts::default());
        let remembered = RememberedPorts {
            jupyter_port: Some(8890),
            moved_ports: BTreeMap::from([("6006".to_owned(), 6007)]),
        };
        file.save(&remembered).unwrap();
        assert_eq!(file.load(), remembered);
        fs::write(&file.0, "jupyter_port = \"x").unwrap();
        assert_eq!(file.load(), RememberedPorts::default());
    }

    #[test]
    fn the_remembered_ports_are_what_their_golden_file_says() {
        let remembered = RememberedPorts {
            jupyter_port: Some(8890),
            moved_ports: BTreeMap::from([("6006".to_owned(), 6007)]),
        };
        let read = |text: &str| toml::from_str(text).ok();
        let mut golden = Golden::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ports"));
        golden.check(
            "ports.toml",
            &remembered,
            &toml::to_string(&remembered).unwrap(),
            read,
        );
        golden.is_read_as("older_ports.toml", &RememberedPorts::default(), read);
        golden.is_read_as("newer_ports.toml", &remembered, read);
        golden.finish();
    }
}
