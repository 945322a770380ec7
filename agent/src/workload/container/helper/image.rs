//! The image of the network helper: this program's binary and nothing else.

use std::{io, path::Path};

use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::error::engine_failed;
use crate::{
    engine::{ContainerEngine, Entry, ImportSpec},
    workload::{HostContext, container::ownership},
};

/// Path of the binary in the image.
pub(super) const BINARY: &str = "/jq-agent";

/// Name of the image; its tag is the binary's hash.
const IMAGE: &str = "jq-inside";

/// Returns the id of the helper's image, and imports it if the engine does not have it. An image with this name but
/// without our labels is neither used nor replaced: ours then has this user's id in its tag.
pub(super) async fn find_or_import(
    engine: &dyn ContainerEngine,
    host: &HostContext,
    hash: &OnceCell<String>,
) -> io::Result<String> {
    let hash = hash.get_or_try_init(|| binary_hash(&host.agent_binary)).await?;
    let labels = ownership::helper_image_labels(host);
    let mut tag = hash.clone();
    for own in [hash.clone(), format!("{hash}-{}", host.uid)] {
        let name = format!("{IMAGE}:{own}");
        tag = own;
        match engine.image(&name).await.map_err(engine_failed)? {
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
    let binary = tokio::fs::read(&host.agent_binary).await?;
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
    let id = engine.import(&import, vec![entry]).await.map_err(engine_failed)?;
    if let Err(error) = engine.prune(&labels, &id).await {
        tracing::debug!(%error, "older helper images were not removed");
    }
    Ok(id)
}

pub(super) async fn binary_hash(binary: &Path) -> io::Result<String> {
    let binary = tokio::fs::read(binary).await?;
    Ok(jq_common::protocol::hex::encode(&Sha256::digest(&binary))[..16].to_owned())
}
