//! The image of the network helper: this program's binary and nothing else.

use std::{io, path::Path};

use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::{error::engine_failed, imported::ImportedImages};
use crate::{
    engine::{ContainerEngine, Entry, ImportSpec},
    random_hex::random_hex,
    workload::{HostContext, container::ownership},
};

/// Path of the binary in the image.
pub(super) const BINARY: &str = "/jq-agent";

/// Name of the image; its tag is the binary's hash.
const IMAGE: &str = "jq-inside";

/// Returns the id of the helper's image, and imports it if the engine does not have one that this user has imported. An
/// image that somebody else gave this name or our labels is neither used nor replaced: an id is the hash of an image.
pub(super) async fn find_or_import(
    engine: &dyn ContainerEngine,
    host: &HostContext,
    hash: &OnceCell<String>,
) -> io::Result<String> {
    let hash = hash.get_or_try_init(|| binary_hash(&host.agent_binary)).await?;
    let imported = ImportedImages::new(&host.state_dir);
    for id in imported.of(hash).await {
        if engine.image(&id).await.map_err(engine_failed)?.is_some() {
            return Ok(id);
        }
    }
    let labels = ownership::helper_image_labels(host);
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
        tag: free_tag(engine, host, hash).await?,
        labels: labels.clone(),
    };
    let id = engine.import(&import, vec![entry]).await.map_err(engine_failed)?;
    imported.add(hash, &id).await?;
    if let Err(error) = engine.prune(&labels, &id).await {
        tracing::debug!(%error, "older helper images were not removed");
    }
    Ok(id)
}

/// A tag that no image has: the binary's hash, with more behind it where that is taken.
async fn free_tag(engine: &dyn ContainerEngine, host: &HostContext, hash: &str) -> io::Result<String> {
    for tag in [hash.to_owned(), format!("{hash}-{}", host.uid)] {
        let taken = engine.image(&format!("{IMAGE}:{tag}")).await;
        if taken.map_err(engine_failed)?.is_none() {
            return Ok(tag);
        }
    }
    Ok(format!("{hash}-{}-{}", host.uid, random_hex::<4>()?))
}

pub(super) async fn binary_hash(binary: &Path) -> io::Result<String> {
    let binary = tokio::fs::read(binary).await?;
    Ok(jq_common::protocol::hex::encode(&Sha256::digest(&binary))[..16].to_owned())
}
