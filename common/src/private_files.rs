//! Files and folders that only this user may read or enter.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rustix::fs::OFlags;
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

/// Waits for the exclusive lock on a file, which is created if it is missing. Dropping the file releases the lock.
/// Blocks.
///
/// # Errors
/// As [`open_append`].
pub fn lock(path: &Path) -> io::Result<File> {
    let file = open_append(path)?;
    file.lock()?;
    Ok(file)
}

/// Replaces the file `path` atomically: a reader sees the old content or the new, after a crash of the machine too. The new
/// file has mode 0600. Creates its folder with [`create_folder`]. Blocks.
///
/// # Errors
/// When the folder or the file cannot be written. The old file is still there then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let file = temporary(folder, ".new-", "", content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
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
