//! The record of the helper images that this user has imported, in private state.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use jq_common::private_files;

use crate::run_blocking::run_blocking;

/// Most ids that are kept for one binary: one for each engine of a host.
const MOST: usize = 8;

/// Most binaries that are kept.
const BINARIES: usize = 8;

/// Ids of images, by the hash of the binary in them.
type Ids = BTreeMap<String, Vec<String>>;

/// The record.
pub(super) struct ImportedImages(PathBuf);

impl ImportedImages {
    /// The record in this state folder.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self(state_dir.join("helper-images"))
    }

    /// The images with this binary, the newest one first.
    pub(super) async fn of(&self, hash: &str) -> Vec<String> {
        let file = self.0.clone();
        let mut all = run_blocking(move || read(&file)).await;
        all.remove(hash).unwrap_or_default()
    }

    /// Adds an image with this binary.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub(super) async fn add(&self, hash: &str, id: &str) -> io::Result<()> {
        let (file, hash, id) = (self.0.clone(), hash.to_owned(), id.to_owned());
        run_blocking(move || {
            let mut all = read(&file);
            let mut ids = all.remove(&hash).unwrap_or_default();
            ids.retain(|other| *other != id);
            ids.insert(0, id);
            ids.truncate(MOST);
            while all.len() >= BINARIES {
                all.pop_first();
            }
            all.insert(hash, ids);
            if let Some(folder) = file.parent() {
                private_files::create_folder(folder)?;
            }
            private_files::replace(&file, &serde_json::to_vec(&all)?)
        })
        .await
    }
}

fn read(file: &Path) -> Ids {
    fs::read(file)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_image_of_a_binary_comes_first_and_the_record_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        let images = ImportedImages::new(&dir.path().join("state"));
        assert!(images.of("a").await.is_empty());
        for n in 0..20 {
            images.add("a", &format!("id{n}")).await.unwrap();
        }
        images.add("a", "id15").await.unwrap();
        let ids = images.of("a").await;
        assert_eq!(
            (ids.len(), ids[0].as_str(), ids[1].as_str()),
            (MOST, "id15", "id19")
        );
        for n in 0..20 {
            images.add(&format!("b{n}"), "id").await.unwrap();
        }
        assert_eq!(read(&images.0).len(), BINARIES);
        assert_eq!(images.of("b19").await, ["id"]);
        fs::write(&images.0, "junk").unwrap();
        assert!(images.of("b19").await.is_empty());
    }
}
