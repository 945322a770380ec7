//! Files and folders that only this user may read or enter.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::Path,
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with},
};
use tempfile::NamedTempFile;

/// Creates the folder `path` and its missing parents with mode 0700, and checks that it belongs to this user alone.
///
/// # Errors
/// When it cannot be created, belongs to another user, or is a symbolic link.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let found = std::fs::symlink_metadata(path)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        let message = format!("{} is not a folder of this user", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    if found.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Opens a file for appending, and creates it with mode 0600 if it is missing.
///
/// # Errors
/// When it cannot be opened or is a symbolic link.
pub fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Takes the exclusive lock on a file, which is created if it is missing. None when another process holds it. Dropping the
/// result releases the lock.
///
/// # Errors
/// As [`open_append`].
pub fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = open_append(path)?;
    match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => {
            tracing::debug!(%error, path = %path.display(), "no flock(2) here");
            lock_by_name(&file)
        }
    }
}

/// Waits for the exclusive lock on a file, which is created if it is missing. Dropping the result releases the lock. Blocks.
///
/// # Errors
/// As [`open_append`]; `WouldBlock` where files cannot be locked and another process has it.
pub fn lock(path: &Path) -> io::Result<File> {
    let file = open_append(path)?;
    match file.lock() {
        Ok(()) => Ok(file),
        Err(_) => lock_by_name(&file)?.ok_or_else(|| io::ErrorKind::WouldBlock.into()),
    }
}

/// [`try_lock`] for a file system without flock(2) (Lustre, some FUSE): an address that only one socket of this network
/// namespace can have (abstract, unix(7)), named after the file.
fn lock_by_name(file: &File) -> io::Result<Option<File>> {
    let found = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    let name = format!("jq-lock-{own}-{:x}-{:x}", found.dev(), found.ino());
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    match bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?) {
        Ok(()) => Ok(Some(socket.into())),
        Err(Errno::ADDRINUSE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Creates a file with mode 0600, complete from the first moment.
///
/// # Errors
/// `AlreadyExists`, or when the folder cannot be written to.
pub fn create_new(path: &Path, content: &[u8]) -> io::Result<()> {
    written(path, content)?.persist_noclobber(path)?;
    Ok(())
}

/// Replaces the file `path` atomically: a reader sees the old content or the new, after a crash of the machine too. The new
/// file has mode 0600. Creates its folder with [`create_folder`]. Blocks.
///
/// # Errors
/// When the folder or the file cannot be written. The old file is still there then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    written(path, content)?.persist(path)?;
    Ok(())
}

/// A temporary file with this content beside `path`, written to the disk.
fn written(path: &Path, content: &[u8]) -> io::Result<NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let file = temporary(folder, ".new-", "", content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Writes a file with mode 0600 into `folder`, which it creates with [`create_folder`]. Its name is random between `prefix`
/// and `suffix`. Dropping the result removes the file. Blocks.
///
/// # Errors
/// When the folder or the file cannot be written.
pub fn temporary(folder: &Path, prefix: &str, suffix: &str, content: &[u8]) -> io::Result<NamedTempFile> {
    create_folder(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(prefix)
        .suffix(suffix)
        .tempfile_in(folder)?;
    file.write_all(content)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::unix::fs::{chown, symlink},
    };

    use super::*;

    #[test]
    fn a_private_file_and_its_folder_are_the_users_alone_and_nothing_else_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let path = folder.join("secret");
        for content in ["first", "second"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn a_link_in_the_place_of_a_private_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        symlink(dir.path(), &link).unwrap();
        assert!(create_folder(&link).is_err());
        assert!(replace(&link.join("file"), b"").is_err());
    }

    #[test]
    fn one_process_at_a_time_has_a_lock_also_where_files_cannot_be_locked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let by_name = || lock_by_name(&open_append(&path).unwrap()).unwrap();
        for lock in [&|| try_lock(&path).unwrap(), &by_name as &dyn Fn() -> _] {
            let held = lock();
            assert!(held.is_some());
            assert!(lock().is_none());
            let copy = held.as_ref().unwrap().try_clone().unwrap();
            drop(held);
            assert!(lock().is_none(), "a successor has it");
            drop(copy);
            assert!(lock().is_some());
        }
    }

    #[test]
    fn a_new_file_never_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        create_new(&path, b"first").unwrap();
        let refused = create_new(&path, b"second").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        replace(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_others_may_enter_is_made_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("open");
        DirBuilder::new().mode(0o777).create(&folder).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        create_folder(&folder).unwrap();
        assert_eq!(folder.metadata().unwrap().mode() & 0o777, 0o700);
        let inner = folder.join("a/b");
        create_folder(&inner).unwrap();
        for made in [&inner, &folder.join("a")] {
            assert_eq!(made.metadata().unwrap().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = match rustix::process::geteuid().is_root() {
            true => {
                let folder = dir.path().join("theirs");
                std::fs::create_dir(&folder).unwrap();
                chown(&folder, Some(65_534), None).unwrap();
                folder
            }
            false => "/usr".into(),
        };
        let refused = create_folder(&folder).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(
            refused.to_string().contains("not a folder of this user"),
            "{refused}"
        );
    }

    #[test]
    fn a_link_is_followed_neither_to_a_folder_nor_to_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (dir.path().join("folder"), dir.path().join("file"));
        for link in [&folder, &file] {
            symlink(dir.path().join("elsewhere"), link).unwrap();
        }
        assert!(open_append(&file).is_err());
        std::fs::create_dir(dir.path().join("elsewhere")).unwrap();
        assert!(create_folder(&folder).is_err());
    }

    #[test]
    fn who_reads_a_file_while_it_is_replaced_has_all_of_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        replace(&path, b"the old content").unwrap();
        let mut reader = File::open(&path).unwrap();
        replace(&path, b"the new").unwrap();
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "the old content");
        assert_eq!(std::fs::read(&path).unwrap(), b"the new");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }
}
