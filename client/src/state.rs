//! Files of this client: the state of a session that is kept from run to run, and the one way to write a private file.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

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
    /// As [`write_private`].
    pub(crate) fn save(&self, remembered: &RememberedPorts) -> io::Result<()> {
        let text = toml::to_string(remembered).map_err(io::Error::other)?;
        write_private(&self.0, text.as_bytes())
    }
}

/// Replaces the file `path` atomically. Only the user can read it (0600). Creates its folder with [`make_private`].
///
/// # Errors
/// When the folder or the file cannot be written. The old file is still there then.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let file = temporary_private(folder, ".new-", "", content)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Writes a file that only the user can read (0600) into `folder`, which it creates with [`make_private`]. Its name is
/// random between `prefix` and `suffix`. Dropping the result removes the file.
///
/// # Errors
/// When the folder or the file cannot be written.
pub(crate) fn temporary_private(
    folder: &Path,
    prefix: &str,
    suffix: &str,
    content: &[u8],
) -> io::Result<NamedTempFile> {
    make_private(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(prefix)
        .suffix(suffix)
        .tempfile_in(folder)?;
    file.write_all(content)?;
    Ok(file)
}

/// Creates `folder` and its missing parents, and makes sure that only the user may enter it (0700).
///
/// # Errors
/// When it cannot be created, is a symbolic link, or belongs to another user.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
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
    fn a_private_file_and_its_folder_are_the_users_alone_and_nothing_else_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let path = folder.join("secret");
        for content in ["first", "second"] {
            write_private(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn a_link_in_the_place_of_a_private_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(make_private(&link).is_err());
        assert!(write_private(&link.join("file"), b"").is_err());
    }

    #[test]
    fn a_folder_that_others_may_enter_is_made_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("open");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        make_private(&folder).unwrap();
        assert_eq!(folder.metadata().unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = match rustix::process::geteuid().is_root() {
            true => {
                let folder = dir.path().join("theirs");
                fs::create_dir(&folder).unwrap();
                std::os::unix::fs::chown(&folder, Some(65_534), None).unwrap();
                folder
            }
            false => "/usr".into(),
        };
        let refused = make_private(&folder).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(
            refused.to_string().contains("not a folder of this user"),
            "{refused}"
        );
    }

    #[test]
    fn who_reads_a_file_while_it_is_replaced_has_all_of_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_private(&path, b"the old content").unwrap();
        let reader = fs::File::open(&path).unwrap();
        write_private(&path, b"the new").unwrap();
        assert_eq!(io::read_to_string(reader).unwrap(), "the old content");
        assert_eq!(fs::read(&path).unwrap(), b"the new");
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
