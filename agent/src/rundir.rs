//! The private folder of a running role: its control socket, its lock and its log.
//!
//! It is located beside the agent's binary, under the machine's present boot (homes may be shared between machines) and
//! the binary's name (builds run side by side). Only this user may enter it; that and the peer guard the control socket.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{Mode, OFlags};
use tokio::net::{UnixListener, UnixStream};

use jq_common::private_files;

use crate::{machine::Machine, role::Role};

/// The name of the folder for what runs on this machine since it was booted.
#[must_use]
pub fn machine_folder() -> String {
    Machine::this().running()
}

/// Length of such a name.
const NAME: usize = 16;

/// How long the folder of an earlier boot is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whether no role in `folder` runs, or has written anything lately.
fn is_outdated(folder: &Path) -> io::Result<bool> {
    for role in std::fs::read_dir(folder)? {
        let role = role?.path();
        let written = std::fs::metadata(role.join("log"))?.modified()?;
        let is_old = written.elapsed().is_ok_and(|age| age > KEPT);
        if !is_old || private_files::try_lock(&role.join("lock"))?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

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
        let mut folder = name.to_owned();
        folder.push(".");
        folder.push(role.name());
        Self::at(base.join("run").join(machine_folder()).join(folder))
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
        let lock = private_files::try_lock(&self.path.join("lock"))?;
        if lock.is_some() {
            self.log()?.set_len(0)?;
        }
        Ok(lock)
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

    /// The folders of other builds in the same role, of this user on this machine.
    #[must_use]
    pub(crate) fn others(&self) -> Vec<Self> {
        let role = self.path.extension();
        let ours = self.path.parent();
        // Earlier builds have theirs under the host's name.
        let earlier = ours
            .and_then(Path::parent)
            .map(|run| run.join(Machine::this().name));
        let folders = ours.map(Path::to_owned).into_iter().chain(earlier);
        let mut others: Vec<_> = folders
            .filter_map(|folder| std::fs::read_dir(folder).ok())
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension() == role && *path != self.path)
            .collect();
        others.sort();
        others
            .into_iter()
            .filter_map(|path| Self::at(path).ok())
            .collect()
    }

    /// Removes the folders of earlier boots in which nothing runs and nothing has changed for a month. Those of other machines
    /// that share this home look the same.
    pub(crate) fn remove_outdated(&self) {
        let ours = self.path.parent();
        let entries = ours.and_then(Path::parent).map(std::fs::read_dir);
        for entry in entries.into_iter().flatten().flatten().flatten() {
            let (folder, name) = (entry.path(), entry.file_name());
            let is_boot = name.len() == NAME && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
            if is_boot && Some(&*folder) != ours && is_outdated(&folder).unwrap_or(false) {
                // What remains is removed the next time.
                let _ = std::fs::remove_dir_all(folder);
            }
        }
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
    fn agents_of_earlier_builds_are_found_under_the_hosts_name() {
        let base = tempfile::tempdir().unwrap();
        let folder = RunDir::open(&base.path().join("agent-new"), Role::Serve).unwrap();
        let run = base.path().join("run");
        let old = run.join(Machine::this().name).join("agent-old.serve");
        for path in [&old, &run.join("another-machine/agent-old.serve")] {
            RunDir::at(path.clone()).unwrap();
        }
        let others: Vec<_> = folder.others().into_iter().map(|other| other.path).collect();
        assert_eq!(others, [old]);
    }

    #[test]
    fn folders_of_earlier_boots_are_removed_unless_something_runs_there_or_did_lately() {
        let base = tempfile::tempdir().unwrap();
        let folder = RunDir::open(&base.path().join("agent-new"), Role::Serve).unwrap();
        let run = base.path().join("run");
        let earlier = |name: &str, age: Duration| {
            let role = RunDir::at(run.join(name).join("agent-old.serve")).unwrap();
            let log = role.log().unwrap();
            log.set_modified(std::time::SystemTime::now() - age).unwrap();
            role
        };
        let month = KEPT + Duration::from_secs(60);
        earlier("0123456789abcdef", month);
        earlier("1123456789abcdef", Duration::ZERO);
        earlier("by-host-name", month);
        let _lock = private_files::try_lock(&earlier("2123456789abcdef", month).path.join("lock")).unwrap();
        folder.remove_outdated();
        let mut left: Vec<_> = std::fs::read_dir(&run)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut kept = vec![
            "1123456789abcdef".to_owned(),
            "2123456789abcdef".to_owned(),
            "by-host-name".to_owned(),
            machine_folder(),
        ];
        kept.sort();
        assert_eq!(left, kept);
    }

    #[test]
    fn a_symbolic_link_in_the_folders_place_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).unwrap();
        assert!(RunDir::at(link).is_err());
    }
}
