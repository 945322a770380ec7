//! Control sockets of ssh, and logs of those that use them: their folder and its removal.

use std::{
    fs::{File, Permissions},
    io::Read,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    error::{Failure, Kind},
    state::SOCKET_PATH_LIMIT,
};

/// A private folder for the control sockets of one chain. Dropping removes it.
pub(super) struct Sockets {
    folder: TempDir,
    /// Sockets and logs so far.
    count: AtomicUsize,
}

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
        let count = AtomicUsize::new(0);
        made.map(|folder| Self { folder, count }).map_err(|e| {
            Failure::new(
                Kind::Local,
                format!("cannot create a folder in {}", within.display()),
            )
            .because(e)
        })
    }

    /// A path for one more control socket.
    pub(super) fn socket(&self) -> Socket {
        Socket(self.folder.path().join(self.next().to_string()))
    }

    /// A log for one more ssh.
    pub(super) fn log(&self) -> LogFile {
        LogFile(self.folder.path().join(format!("log-{}", self.next())))
    }

    fn next(&self) -> usize {
        self.count.fetch_add(1, Ordering::Relaxed)
    }
}

/// Removes folders that killed clients left behind; ssh removes its sockets itself. A folder in use has no socket while ssh
/// waits for the user, which takes less than a day.
fn remove_forgotten(within: &Path) {
    let is_old = |path: &Path| {
        let modified = path.symlink_metadata().and_then(|m| m.modified()).ok();
        modified
            .and_then(|at| at.elapsed().ok())
            .is_some_and(|age| age > DAY)
    };
    for entry in within.read_dir().into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b"s-") && is_old(&path) && !has_socket(&path) {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

fn has_socket(folder: &Path) -> bool {
    let mut entries = folder.read_dir().into_iter().flatten().flatten();
    entries.any(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
}

/// What an ssh writes about itself. Dropping removes it.
pub(super) struct LogFile(PathBuf);

/// Limit of what is read of a log, in bytes.
const LOG: u64 = 64 * 1024;

impl LogFile {
    /// Its path, for `-E`.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Its content so far, or the beginning of it.
    pub(super) fn read(&self) -> String {
        let mut content = Vec::new();
        // A log that was not begun is empty.
        let _ = File::open(&self.0).and_then(|file| file.take(LOG).read_to_end(&mut content));
        String::from_utf8_lossy(&content).into_owned()
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
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
    /// The socket of a master connection that the user has opened. None if its path cannot be an argument.
    pub(super) fn of_the_user(path: &Path) -> Option<Self> {
        let is_plain = |path: &str| !path.contains("${") && !path.contains('\n');
        let fits = path.is_absolute() && path.to_str().is_some_and(is_plain);
        fits.then(|| Self(path.to_owned()))
    }

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
impl From<&str> for LogFile {
    fn from(path: &str) -> Self {
        Self(path.into())
    }
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
            for _ in 0..12 {
                sockets.socket();
            }
            let socket = sockets.socket();
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
        let mut listeners = Vec::new();
        for (name, age) in [("s-aaaaaa", 2), ("s-bbbbbb", 0), ("s-cccccc", 2), ("sockets", 2)] {
            let path = within.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("log-0"), "left").unwrap();
            if name == "s-cccccc" {
                listeners.push(std::os::unix::net::UnixListener::bind(path.join("0")).unwrap());
            }
            let then = std::time::SystemTime::now() - DAY * age;
            File::open(&path).unwrap().set_modified(then).unwrap();
        }
        drop(Sockets::create(within.path()).unwrap());
        let mut left: Vec<_> = within
            .path()
            .read_dir()
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["s-bbbbbb", "s-cccccc", "sockets"]);
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
