//! The helpers of an agent, one for each container.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
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

/// Ways into containers' networks.
pub(crate) trait ContainerAccess: Send + Sync {
    /// The network of this running container; `container` is its present state.
    fn open<'a>(
        &'a self,
        engine: &'a Arc<dyn ContainerEngine>,
        container: &'a ContainerState,
        session: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn RunningWorkload>, Failure>>;
}

/// This agent's helpers, one for each container.
pub(crate) struct Helpers {
    pub(super) host: Arc<HostContext>,
    /// The first 16 hex digits of this binary's SHA-256.
    hash: Arc<OnceCell<String>>,
    helpers: Mutex<HashMap<String, Arc<Helper>>>,
    /// Starts of helpers go on when who asked for them is gone.
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

    /// Removes every helper, and starts none again.
    pub(crate) async fn remove_all(&self) {
        self.tasks.close();
        let helpers: Vec<Arc<Helper>> = {
            let mut helpers = self.helpers.lock().unwrap_or_else(PoisonError::into_inner);
            helpers.drain().map(|(_, helper)| helper).collect()
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
                // Asked under the lock that `remove_all` drains under: none is made behind its back.
                if self.tasks.is_closed() {
                    return Err(fail(
                        FailureKind::Internal,
                        "the agent is ending",
                        "",
                        "run the same command again",
                    ));
                }
                helpers
                    .entry(container.id.clone())
                    .or_insert_with(|| {
                        let target = (container.id.clone(), session.to_owned());
                        let hash = self.hash.clone();
                        Arc::new(Helper::new(
                            self.host.clone(),
                            hash,
                            engine.clone(),
                            target,
                            self.tasks.clone(),
                        ))
                    })
                    .clone()
            };
            helper.renew(&container.started_at).await;
            helper.clone().up().await.map_err(|error| {
                fail(
                    FailureKind::StartFailed,
                    "cannot reach into the container's network",
                    error.to_string(),
                    "see whether the engine can start containers: `docker run --rm hello-world` on the host",
                )
            })?;
            Ok(Arc::new(ContainerWorkload(helper)) as Arc<dyn RunningWorkload>)
        })
    }
}
