//! Finds a container that was running before, as it is.

use std::sync::Arc;

use jq_common::protocol::workload::{Failure, FailureKind, WorkloadSpec};

use crate::{
    engine::{ContainerEngine, Phase},
    failure::fail,
    session_store::SessionStore,
    workload::{
        HostContext, RunningWorkload,
        container::{helper::ContainerAccess, ownership},
        failure,
    },
};

/// Opens the network of a workload's container that was running before. Changes nothing about the container.
///
/// # Errors
/// When it is gone, is another one, does not run, or cannot be reached.
pub(crate) async fn find(
    engine: Arc<dyn ContainerEngine>,
    host: &HostContext,
    store: &SessionStore,
    access: &dyn ContainerAccess,
    spec: &WorkloadSpec,
) -> Result<Arc<dyn RunningWorkload>, Failure> {
    let own = ownership::name(&host.user, &spec.session);
    let name = spec.existing_container.as_ref().unwrap_or(&own);
    let unavailable = |why: &str| {
        fail(
            FailureKind::ContainerUnavailable,
            format!("cannot use the container {name}"),
            why,
            "connect again to start it, or to create a new one",
        )
    };
    let container = engine
        .container(name)
        .await
        .map_err(|error| failure::engine("cannot ask the engine", &error))?
        .ok_or_else(|| unavailable("it does not exist any more"))?;
    if spec.existing_container.is_none() {
        let record = store.container(&spec.session).await;
        let not_ours = ownership::why_not_ours(&container, host.uid, &spec.session, record.as_ref());
        if let Some(why) = not_ours {
            return Err(unavailable(why));
        }
    }
    if container.phase != Phase::Running {
        return Err(unavailable("it is not running"));
    }
    access.open(&engine, &container, &spec.session).await
}
