//! Control sockets of ssh: their folder and its removal.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    error::{Failure, Kind},
    state::SOCKET_PATH_LIMIT,
};

/// A private folder for the control sockets of one chain. Dropping removes it.
pub(super) struct Sockets(TempDir);

/// Longest path of a control socket in bytes: ssh creates it under a temporary name that is 17 bytes longer.
const LONGEST: usize = SOCKET_PATH_LIMIT - 17;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Length that the names of a folder and a socket add to a path.
const ADDED: usize = "/s-123456/12".len();

impl Sockets {
    /// Creates one in `within`, or in /tmp if socket paths in `within` would be too long.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub(super) fn create(within: &Path) -> Result<Self, Failure> {
        let within = if fits(within) { within } else { Path::new("/tmp") };
        remove_forgotten(within);
        let made = tempfile::Builder::new()
            .prefix("s-")
            .rand_bytes(6)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(within);
        made.map(Self).map_err(|e| {
            Failure::new(
                Kind::Local,
                format!("cannot create a folder in {}", within.display()),
            )
            .because(e)
        })
    }

    /// The socket of the connection with the given number.
    pub(super) fn get(&self, number: usize) -> Socket {
        Socket(self.0.path().join(number.to_string()))
    }
}

/// Removes empty folders that killed clients left behind; ssh removes its sockets itself. A folder in use is empty while
/// ssh waits for the user, which takes less than a day.
fn remove_forgotten(within: &Path) {
    let is_old = |path: &Path| {
        let modified = path.symlink_metadata().and_then(|m| m.modified()).ok();
        modified
            .and_then(|at| at.elapsed().ok())
            .is_some_and(|age| age > DAY)
    };
    for entry in within.read_dir().into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b"s-") && is_old(&entry.path()) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

/// Whether ssh accepts sockets in `within`: the path is short, and contains nothing that ssh would expand.
fn fits(within: &Path) -> bool {
    let room = within.as_os_str().len() + ADDED <= LONGEST;
    room && within.is_absolute()
        && within
            .to_str()
            .is_some_and(|p| !p.contains("${") && !p.contains('\n'))
}

/// A control socket, through which sessions use a master connection. It exists once the connection is established.
#[derive(Clone, Debug)]
pub(super) struct Socket(PathBuf);

impl Socket {
    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Its path as an argument of `-S`.
    pub(super) fn escaped(&self) -> String {
        without_tokens(&self.0.to_string_lossy())
    }
}

/// Escapes `%`, with which tokens of ssh begin.
pub(super) fn without_tokens(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
impl From<&str> for Socket {
    fn from(path: &str) -> Self {
        Self(path.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_private_has_a_short_path_and_is_removed() {
        let long = tempfile::Builder::new()
            .prefix(&"x".repeat(90))
            .tempdir()
            .unwrap();
        for within in [tempfile::tempdir_in("/tmp").unwrap(), long] {
            let sockets = Sockets::create(within.path()).unwrap();
            let socket = sockets.get(12);
            let folder = socket.path().parent().unwrap().to_owned();
            assert!(socket.path().as_os_str().len() <= LONGEST, "{socket:?}");
            assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
            drop(sockets);
            assert!(!folder.exists());
        }
    }

    #[test]
    fn folders_of_clients_that_were_killed_are_removed() {
        let within = tempfile::tempdir_in("/tmp").unwrap();
        for (name, age) in [("s-aaaaaa", 2), ("s-bbbbbb", 0), ("sockets", 2)] {
            let path = within.path().join(name);
            std::fs::create_dir(&path).unwrap();
            let then = std::time::SystemTime::now() - DAY * age;
            std::fs::File::open(&path).unwrap().set_modified(then).unwrap();
        }
        drop(Sockets::create(within.path()).unwrap());
        let mut left: Vec<_> = within
            .path()
            .read_dir()
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["s-bbbbbb", "sockets"]);
    }

    #[test]
    fn a_path_that_ssh_would_expand_is_not_used() {
        assert!(fits(Path::new("/run/user/1000/jq")));
        assert!(fits(Path::new("/run/user/50% off/jq")));
        assert!(!fits(Path::new("/run/${HOME}/jq")));
        assert!(!fits(Path::new("run/jq")));
        assert_eq!(Socket::from("/run/50%/1").escaped(), "/run/50%%/1");
    }
}
