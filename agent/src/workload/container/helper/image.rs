//! The helper's image: this very binary and nothing else.

use std::{io, path::Path};

use sha2::{Digest, Sha256};

use super::{BINARY, Helper, other};
use crate::{
    engine::{Entry, ImportSpec},
    session_store::hex,
    workload::container::ownership,
};

/// Its name; its tag is the binary's hash.
const IMAGE: &str = "jq-inside";

impl Helper {
    /// The id of the helper's image, made when the engine does not have it. One of the same name that is not labelled
    /// as ours is neither used nor replaced: ours then has this user's id in its tag.
    pub(crate) async fn image(&self) -> io::Result<String> {
        let hash = self
            .hash
            .get_or_try_init(|| binary_hash(&self.host.agent_binary))
            .await?;
        let labels = ownership::helper_image_labels(&self.host);
        let mut tag = hash.clone();
        for own in [hash.clone(), format!("{hash}-{}", self.host.uid)] {
            let name = format!("{IMAGE}:{own}");
            tag = own;
            match self.engine.image(&name).await.map_err(other)? {
                None => break,
                Some(image)
                    if labels
                        .iter()
                        .all(|(key, value)| image.labels.get(key) == Some(value)) =>
                {
                    return Ok(image.id);
                }
                Some(_) => {}
            }
        }
        let binary = tokio::fs::read(&self.host.agent_binary).await?;
        let entry = Entry {
            path: BINARY.to_owned(),
            content: Some(binary.into()),
            mode: 0o755,
            uid: 0,
            gid: 0,
        };
        let import = ImportSpec {
            repository: IMAGE.to_owned(),
            tag,
            labels: labels.clone(),
        };
        let id = self.engine.import(&import, vec![entry]).await.map_err(other)?;
        if let Err(error) = self.engine.prune(&labels, &id).await {
            tracing::debug!(%error, "older helper images stay");
        }
        Ok(id)
    }
}

pub(crate) async fn binary_hash(binary: &Path) -> io::Result<String> {
    let binary = tokio::fs::read(binary).await?;
    Ok(hex(&Sha256::digest(&binary))[..16].to_owned())
}
