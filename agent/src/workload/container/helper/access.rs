//! The network helpers of an agent, one for each container.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures_util::future::BoxFuture;
use jq_common::protocol::workload::{Failure, FailureKind};
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use super::lifecycle::{ContainerWorkload, Helper};
use crate::{
    engine::{ContainerEngine, ContainerState},
    failure::fail,
    workload::{HostContext, RunningWorkload},
};

/// Gives access to the networks of containers.
pub(crate) trait ContainerAccess: Send + Sync {
    /// Opens the network of a running container, whose present state is `container`.
    fn open<'a>(
        &'a self,
        engine: &'a Arc<dyn ContainerEngine>,
        container: &'a ContainerState,
        session: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn RunningWorkload>, Failure>>;
}

/// The network helpers of this agent, one for each container.
pub(crate) struct Helpers {
    pub(super) host: Arc<HostContext>,
    /// First 16 hex digits of the SHA-256 of this binary.
    hash: Arc<OnceCell<String>>,
    /// By container, for as long as somebody uses them.
    helpers: Mutex<HashMap<String, Weak<Helper>>>,
    /// Starts and removals of helpers, which continue when the caller is gone.
    tasks: TaskTracker,
}

impl Helpers {
    pub(crate) fn new(host: Arc<HostContext>) -> Self {
        Self {
            host,
            hash: Arc::default(),
            helpers: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Removes all helpers, and starts none afterwards.
    pub(crate) async fn remove_all(&self) {
        self.tasks.close();
        let helpers: Vec<Arc<Helper>> = {
            let mut helpers = self.helpers.lock().unwrap_or_else(PoisonError::into_inner);
            helpers
                .drain()
                .filter_map(|(_, helper)| helper.upgrade())
                .collect()
        };
        for helper in helpers {
            helper.end().await;
        }
    }
}

impl ContainerAccess for Helpers {
    fn open<'a>(
        &'a self,
        engine: &'a Arc<dyn ContainerEngine>,
        container: &'a ContainerState,
        session: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn RunningWorkload>, Failure>> {
        Box::pin(async move {
            let helper = {
                let mut helpers = self.helpers.lock().unwrap_or_else(PoisonError::into_inner);
                // Checked under the lock that `remove_all` takes, so that no helper is started after it.
                if self.tasks.is_closed() {
                    return Err(fail(
                        FailureKind::Internal,
                        "the agent is shutting down",
                        "",
                        "run the same command again",
                    ));
                }
                helpers.retain(|_, helper| helper.strong_count() > 0);
                let known = helpers.get(&container.id).and_then(Weak::upgrade);
                known.unwrap_or_else(|| {
                    let target = (container.id.clone(), session.to_owned());
                    let helper = Arc::new(Helper::new(
                        self.host.clone(),
                        self.hash.clone(),
                        engine.clone(),
                        target,
                        self.tasks.clone(),
                    ));
                    helpers.insert(container.id.clone(), Arc::downgrade(&helper));
                    helper
                })
            };
            // From here on it is in use.
            let workload = Arc::new(ContainerWorkload::new(
                helper.clone(),
                container.started_at.clone(),
            ));
            helper.remove_outdated(&container.started_at).await;
            helper.running().await.map_err(|error| {
                fail(
                    FailureKind::StartFailed,
                    "cannot access the container's network",
                    error.to_string(),
                    "check that the engine can start containers: `docker run --rm hello-world` on the host",
                )
            })?;
            Ok(workload as Arc<dyn RunningWorkload>)
        })
    }
}
