//! What is remembered of a session from one run to the next, so that the second is like the first.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Where this client keeps its files.
#[derive(Clone, Debug)]
pub struct Folders {
    /// What is kept from run to run.
    pub state: PathBuf,
    /// Sockets; private.
    pub runtime: PathBuf,
}

/// A session's memory. Missing or unreadable, it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Local port of Jupyter.
    pub jupyter_port: Option<u16>,
    /// Local ports that `-L` got, by the one wanted: they move when that one is taken, and stay moved.
    #[serde(default)]
    pub moved_ports: BTreeMap<String, u16>,
}

/// Where a session's memory is kept.
pub struct SessionFile(PathBuf);

impl SessionFile {
    /// The file of the session `name` below `state_dir`.
    #[must_use]
    pub fn new(state_dir: &Path, name: &str) -> Self {
        Self(state_dir.join("sessions").join(format!("{name}.toml")))
    }

    /// Reads it.
    #[must_use]
    pub fn load(&self) -> Remembered {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        toml::from_str(&text).unwrap_or_default()
    }

    /// Writes it whole or not at all; readable by the user alone.
    ///
    /// # Errors
    /// When the folder or the file cannot be written.
    pub fn save(&self, remembered: &Remembered) -> io::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        make_private(folder)?;
        let text = toml::to_string(remembered).map_err(io::Error::other)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(&self.0).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Makes a folder, and its missing parents, that only the user may enter.
///
/// # Errors
/// When it cannot be made, is a link, or is somebody else's.
pub fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        let message = format!("{} is not a folder of this user", folder.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_damage_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = SessionFile::new(dir.path(), "gpu");
        assert_eq!(file.load(), Remembered::default());
        let remembered = Remembered {
            jupyter_port: Some(8890),
            moved_ports: BTreeMap::from([("6006".to_owned(), 6007)]),
        };
        file.save(&remembered).unwrap();
        assert_eq!(file.load(), remembered);
        fs::write(&file.0, "jupyter_port = \"x").unwrap();
        assert_eq!(file.load(), Remembered::default());
    }
}
