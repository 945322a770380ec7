//! Files and folders that only this user may read or enter.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// Creates the folder `path` and its missing parents with mode 0700, and checks that it belongs to this user alone.
///
/// # Errors
/// When it cannot be created, belongs to another user, or is a symbolic link.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
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
pub(crate) fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Waits for the exclusive lock on a file, which is created if it is missing. Dropping the file releases the lock.
/// Blocks.
///
/// # Errors
/// As [`open_append`].
pub(crate) fn lock(path: &Path) -> io::Result<File> {
    let file = open_append(path)?;
    file.lock()?;
    Ok(file)
}

/// Replaces a file atomically: a reader sees the old content or the new. The new file has mode 0600.
///
/// # Errors
/// When the folder cannot be written to.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("no folder"))?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
