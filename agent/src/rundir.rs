//! The private folder of a running role: its control socket, its lock and its log.
//!
//! It is located beside the agent's binary, under the host's name (homes may be shared between hosts) and the binary's
//! name (builds run side by side). Only this user may enter it; that and the peer's user id guard the control socket.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use tokio::net::{UnixListener, UnixStream};

use jq_common::private_files;

use crate::role::Role;

/// A role's private folder, held open.
pub struct RunDir {
    path: PathBuf,
    handle: OwnedFd,
}

impl RunDir {
    /// Opens the folder of `role` for the agent at `binary`, and creates it if it is missing.
    ///
    /// # Errors
    /// When it cannot be created, belongs to another user, or is a symbolic link.
    pub(crate) fn open(binary: &Path, role: Role) -> io::Result<Self> {
        let (Some(base), Some(name)) = (binary.parent(), binary.file_name()) else {
            return Err(io::Error::other(format!("{} has no folder", binary.display())));
        };
        let host = host_name();
        let mut folder = name.to_owned();
        folder.push(".");
        folder.push(role.name());
        Self::at(base.join("run").join(host).join(folder))
    }

    /// Opens exactly this folder, and creates it if it is missing.
    ///
    /// # Errors
    /// When it cannot be created, belongs to another user, or is a symbolic link.
    pub fn at(path: PathBuf) -> io::Result<Self> {
        private_files::create_folder(&path)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let handle = rustix::fs::open(&path, flags, Mode::empty())?;
        Ok(Self { path, handle })
    }

    /// The folder's path.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock that a role's process holds for as long as it runs, and empties the log. None when another
    /// process holds it.
    ///
    /// # Errors
    /// When the lock file cannot be created.
    pub(crate) fn lock(&self) -> io::Result<Option<File>> {
        let file = private_files::open_append(&self.path.join("lock"))?;
        match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                self.log()?.set_len(0)?;
                Ok(Some(file))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the log file for appending. The process that gets the lock empties it.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn log(&self) -> io::Result<File> {
        private_files::open_append(&self.path.join("log"))
    }

    /// Listens on the control socket. Call it with the lock held: the socket of a dead process is replaced.
    ///
    /// # Errors
    /// When the socket cannot be created.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        let socket = self.socket();
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        UnixListener::bind(socket)
    }

    /// The folders of other builds in the same role, of this user on this host.
    #[must_use]
    pub(crate) fn others(&self) -> Vec<Self> {
        let role = self.path.extension();
        let Some(Ok(entries)) = self.path.parent().map(std::fs::read_dir) else {
            return Vec::new();
        };
        let mut others: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension() == role && *path != self.path)
            .collect();
        others.sort();
        others
            .into_iter()
            .filter_map(|path| Self::at(path).ok())
            .collect()
    }

    /// Connects to the control socket.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` when no process of the role is running.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.socket()).await
    }

    /// The socket's path through the open folder: the path of a home may be longer than the limit for socket addresses
    /// (unix(7)).
    fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/control", self.handle.as_raw_fd()))
    }
}

/// The host's name from the kernel, with only characters that are safe in a file name.
#[must_use]
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect();
    if name.is_empty() { "host".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn a_role_is_reached_even_under_a_path_too_long_for_a_socket() {
        let base = tempfile::tempdir().unwrap();
        let deep = base.path().join("d".repeat(120)).join("e".repeat(120));
        let folder = RunDir::at(deep).unwrap();
        let listener = folder.listen().unwrap();
        let (accepted, connected) = tokio::join!(listener.accept(), folder.connect());
        accepted.unwrap();
        connected.unwrap();
    }

    #[test]
    fn the_folder_is_private_and_one_process_holds_its_lock() {
        let base = tempfile::tempdir().unwrap();
        let folder = RunDir::open(&base.path().join("agent-0123"), Role::Serve).unwrap();
        assert_eq!(std::fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
        let held = folder.lock().unwrap();
        assert!(held.is_some());
        assert!(folder.lock().unwrap().is_none());
        drop(held);
        assert!(folder.lock().unwrap().is_some());
    }

    #[test]
    fn a_symbolic_link_in_the_folders_place_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).unwrap();
        assert!(RunDir::at(link).is_err());
    }
}
