//! Where the socket of a process lies: beside its record, or in a private folder in /tmp where that path is too long for
//! a socket or its file system has no sockets.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt, net::UnixListener},
    path::{Path, PathBuf},
};

use jq_common::protocol::hex;
use sha2::{Digest, Sha256};

use jq_common::private_files::create_folder;

use crate::workload::HostContext;

/// Longest path of a socket in bytes, with the zero byte at its end (unix(7)).
const LONGEST: usize = 108;

/// Folders for sockets whose own folder cannot have them.
const OTHERS: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// A path at which a socket can be made: `wanted`, or another one. Nothing is left there.
///
/// # Errors
/// When there is none.
pub(crate) fn path(host: &HostContext, wanted: &Path) -> io::Result<PathBuf> {
    if can_be_made(wanted).is_ok() {
        return Ok(wanted.to_owned());
    }
    let name = hex::encode(&Sha256::digest(wanted.as_os_str().as_bytes())[..8]);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    // Another user may have made a folder of this name beforehand.
    for base in OTHERS {
        let other = Path::new(base)
            .join(format!("jq-sockets-{}", host.uid))
            .join(&name);
        match can_be_made(&other) {
            Ok(()) => return Ok(other),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn can_be_made(path: &Path) -> io::Result<()> {
    if path.as_os_str().len() >= LONGEST {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    let remove = || match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    // Left by a process that was killed.
    remove()?;
    drop(UnixListener::bind(path)?);
    remove()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::fixtures::host;

    #[test]
    fn a_path_that_is_too_long_for_a_socket_gets_a_short_one_in_a_private_folder() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = host();
        host.uid = rustix::process::geteuid().as_raw();
        let near = dir.path().join("gpu.sock");
        fs::write(&near, "left").unwrap();
        assert_eq!(path(&host, &near).unwrap(), near);
        assert!(!near.exists());
        let long = dir.path().join("x".repeat(100)).join("gpu.sock");
        let other = path(&host, &long).unwrap();
        assert!(other.starts_with(format!("/tmp/jq-sockets-{}", host.uid)));
        assert!(other.as_os_str().len() < LONGEST && path(&host, &long).unwrap() == other);
        // Another test may be using the folder.
        let _ = fs::remove_dir(other.parent().unwrap());
    }
}
