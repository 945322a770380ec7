//! Files for a container as tar streams, which engines accept and return.

use std::{
    io::{self, Read},
    time::{SystemTime, UNIX_EPOCH},
};

use super::Entry;

/// Most bytes read from a file of a container.
pub(super) const FILE_LIMIT: usize = 1024 * 1024;

/// Builds a tar of `entries`, with paths relative to `/`.
pub(super) fn pack(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        header.set_mtime(now);
        let path = entry.path.trim_matches('/');
        match &entry.content {
            Some(content) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(content.len() as u64);
                tar.append_data(&mut header, path, content.as_ref())?;
            }
            None => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                tar.append_data(&mut header, format!("{path}/"), io::empty())?;
            }
        }
    }
    tar.into_inner()
}

/// Extracts the regular file that the tar holds; None when it holds something else (a link, a folder).
pub(crate) fn unpack_file(bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(bytes);
    let Some(entry) = archive.entries()?.next() else {
        return Ok(None);
    };
    let entry = entry?;
    if !entry.header().entry_type().is_file() {
        return Ok(None);
    }
    let mut content = Vec::new();
    entry.take(FILE_LIMIT as u64).read_to_end(&mut content)?;
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_back_as_it_was_packed() {
        let file = Entry {
            path: "/run/jq/token".into(),
            content: Some("secret".into()),
            mode: 0o400,
            uid: 1000,
            gid: 100,
        };
        let tar = pack(std::slice::from_ref(&file)).unwrap();
        assert_eq!(unpack_file(&tar).unwrap().unwrap(), b"secret");
        let mut archive = tar::Archive::new(tar.as_slice());
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("run/jq/token"));
        assert_eq!(entry.header().mode().unwrap(), 0o400);
        assert_eq!(entry.header().uid().unwrap(), 1000);
    }

    #[test]
    fn a_folder_is_no_file() {
        let folder = Entry {
            path: "/home/jq".into(),
            content: None,
            mode: 0o700,
            uid: 1,
            gid: 1,
        };
        assert_eq!(unpack_file(&pack(&[folder]).unwrap()).unwrap(), None);
        assert_eq!(unpack_file(&[]).unwrap(), None);
    }

    proptest::proptest! {
        #[test]
        fn junk_from_a_container_is_never_a_panic(bytes: Vec<u8>) {
            let _ = unpack_file(&bytes);
        }
    }
}
