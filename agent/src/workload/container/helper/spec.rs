//! The container of a network helper: read-only, non-root, and with nothing of the host or of the target but the target's
//! network.

use std::io;

use super::image::BINARY;
use crate::{
    engine::{ContainerSpec, EngineFacts},
    random_hex::random_hex,
    workload::{HostContext, container::ownership},
};

/// A path for the helper's socket, on the one file system of a read-only container that every engine makes writable
/// for all.
pub(super) fn socket_path() -> io::Result<String> {
    Ok(format!("/dev/shm/jq-inside-{}.sock", random_hex::<8>()?))
}

/// The specification of a helper's container in the network of the container `target`.
pub(super) fn spec(
    host: &HostContext,
    facts: &EngineFacts,
    (target, session): (&str, &str),
    image: &str,
    socket: &str,
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
        command: Some(["inside", "--socket", socket].map(str::to_owned).to_vec()),
        user: Some(user),
        labels: ownership::helper_labels(host, session),
        network_of: Some(target.to_owned()),
        confined: true,
        host_users: facts.remapped,
        ..ContainerSpec::default()
    })
}
