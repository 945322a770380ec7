//! The container of a network helper: read-only, non-root, and with nothing of the target but its network.

use std::{
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use tempfile::TempDir;

use super::image::BINARY;
use crate::{
    engine::{ContainerSpec, EngineFacts, Mount, MountSource},
    random_hex::random_hex,
    workload::{HostContext, container::ownership},
};

/// Path of the shared folder in the container.
const SHARED: &str = "/run/jq";

/// The specification of a helper's container in the network of the container `target`.
pub(super) fn spec(
    host: &HostContext,
    facts: &EngineFacts,
    (target, session): (&str, &str),
    image: &str,
    shared: &Path,
) -> io::Result<ContainerSpec> {
    let user = if facts.rootless {
        // Root in the container is this user on the host.
        "0:0".to_owned()
    } else {
        format!("{}:{}", host.uid, host.gid)
    };
    Ok(ContainerSpec {
        name: format!("jq-inside-{}-{}", session, random_hex::<4>()?),
        image: image.to_owned(),
        entrypoint: Some(vec![BINARY.to_owned()]),
        command: Some(
            ["inside", "--socket", "/run/jq/inside.sock"]
                .map(str::to_owned)
                .to_vec(),
        ),
        user: Some(user),
        labels: ownership::helper_labels(host, session),
        mounts: vec![Mount {
            source: MountSource::Host(shared.to_string_lossy().into_owned()),
            destination: SHARED.to_owned(),
            read_only: false,
        }],
        network_of: Some(target.to_owned()),
        confined: true,
        host_users: facts.remapped,
        ..ContainerSpec::default()
    })
}

/// Creates a folder that only this user may enter. In /tmp, because engines can access that even where homes are on a
/// network file system that denies root.
pub(super) fn shared_folder(host: &HostContext) -> io::Result<TempDir> {
    let make = |parent: &Path| {
        tempfile::Builder::new()
            .prefix("jq-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(parent)
    };
    let dir = make(Path::new("/tmp")).or_else(|_| make(&host.run_dir))?;
    let metadata = std::fs::symlink_metadata(dir.path())?;
    let own = rustix::process::geteuid().as_raw();
    if !metadata.is_dir() || metadata.uid() != own || metadata.mode() & 0o777 != 0o700 {
        return Err(io::Error::other(format!(
            "{} is not a private folder",
            dir.path().display()
        )));
    }
    Ok(dir)
}
