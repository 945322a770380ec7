//! The helper in a container's network: the agent's own binary, alone in an image, in a container that shares the
//! target's network and nothing else. It works for any target: no shell, read-only, non-root.

mod image;

use std::{
    collections::HashMap,
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use jq_common::protocol::workload::{Failure, FailureKind};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    sync::OnceCell,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use super::ownership;
use crate::{
    engine::{ContainerEngine, ContainerSpec, ContainerState, EngineError, Mount, MountSource, Phase},
    netns_helper::{HelperConnection, HelperListener},
    session_store::random_hex,
    workload::{HostContext, Network, failure::fail},
};

/// Where the binary lies in it.
const BINARY: &str = "/jq-agent";
/// Where the shared folder is seen.
const SHARED: &str = "/run/jq";
/// How long a helper may take to come up once it is started.
const COME_UP: Duration = Duration::from_secs(20);
/// How long after a failed start the next is tried.
const REST: Duration = Duration::from_secs(2);
/// How often at most a refused connection makes us look whether the container was restarted.
const LOOK: Duration = Duration::from_secs(1);

/// Ways into containers' networks.
pub(crate) trait Networks: Send + Sync {
    /// The network of this running container; `container` is its present state.
    fn of<'a>(
        &'a self,
        engine: &'a Arc<dyn ContainerEngine>,
        container: &'a ContainerState,
        session: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Network>, Failure>>;
}

/// This agent's helpers, one for each container.
pub(crate) struct Helpers {
    host: Arc<HostContext>,
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

impl Networks for Helpers {
    fn of<'a>(
        &'a self,
        engine: &'a Arc<dyn ContainerEngine>,
        container: &'a ContainerState,
        session: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Network>, Failure>> {
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
                        Arc::new(Helper {
                            host: self.host.clone(),
                            hash: self.hash.clone(),
                            engine: engine.clone(),
                            target: container.id.clone(),
                            session: session.to_owned(),
                            state: tokio::sync::Mutex::default(),
                            tasks: self.tasks.clone(),
                        })
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
            Ok(Arc::new(Network::container(helper)))
        })
    }
}

/// The helper of one container, running or to be started again.
pub(crate) struct Helper {
    host: Arc<HostContext>,
    hash: Arc<OnceCell<String>>,
    engine: Arc<dyn ContainerEngine>,
    target: String,
    session: String,
    state: tokio::sync::Mutex<State>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    ended: bool,
    /// The last start that failed.
    failed: Option<(Instant, String)>,
    /// When we last looked whether the container was restarted.
    looked: Option<Instant>,
}

struct Running {
    inside: Arc<HelperConnection>,
    id: String,
    /// When the target was started, whose network this helper is in.
    target_started_at: String,
}

impl Helper {
    pub(crate) async fn dial(self: &Arc<Self>, port: u16) -> io::Result<TcpStream> {
        let inside = self.up().await?;
        let error = match inside.dial(port).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let again = match error.kind() {
            io::ErrorKind::BrokenPipe => {
                self.drop_if(&inside).await;
                true
            }
            // A restarted container has a new network; the helper is still in the old one.
            io::ErrorKind::ConnectionRefused => self.target_restarted().await,
            _ => false,
        };
        if again {
            self.up().await?.dial(port).await
        } else {
            Err(error)
        }
    }

    /// The running helper, started when there is none. The start is a task of its own, so that a caller that gives up
    /// leaves no half-made container.
    async fn up(self: &Arc<Self>) -> io::Result<Arc<HelperConnection>> {
        if let Some(running) = &self.state.lock().await.running {
            return Ok(running.inside.clone());
        }
        let helper = self.clone();
        self.tasks
            .spawn(async move {
                let mut state = helper.state.lock().await;
                if let Some(running) = &state.running {
                    return Ok(running.inside.clone());
                }
                if state.ended {
                    return Err(not_connected("the agent is ending".into()));
                }
                if let Some((when, why)) = &state.failed
                    && when.elapsed() < REST
                {
                    return Err(not_connected(why.clone()));
                }
                match helper.begin().await {
                    Ok(running) => {
                        let inside = running.inside.clone();
                        state.failed = None;
                        state.running = Some(running);
                        Ok(inside)
                    }
                    Err(error) => {
                        tracing::info!(container = %helper.target, %error, "no helper");
                        state.failed = Some((Instant::now(), error.to_string()));
                        Err(error)
                    }
                }
            })
            .await
            .map_err(io::Error::other)?
    }

    /// Drops this connection if it is still the current one.
    async fn drop_if(&self, gone: &Arc<HelperConnection>) {
        let mut state = self.state.lock().await;
        if state
            .running
            .as_ref()
            .is_some_and(|running| Arc::ptr_eq(&running.inside, gone))
        {
            state.running = None;
        }
    }

    /// Ends the helper if it was started for an earlier run of the container.
    async fn renew(&self, started_at: &str) {
        let mut state = self.state.lock().await;
        // Someone wants it now: no waiting out.
        state.failed = None;
        if state
            .running
            .as_ref()
            .is_some_and(|running| running.target_started_at != started_at)
            && let Some(old) = state.running.take()
        {
            self.remove(old).await;
        }
    }

    async fn target_restarted(&self) -> bool {
        {
            let mut state = self.state.lock().await;
            if state.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
                return false;
            }
            state.looked = Some(Instant::now());
        }
        let Ok(Some(target)) = self.engine.container(&self.target).await else {
            return false;
        };
        if target.phase != Phase::Running {
            return false;
        }
        self.renew(&target.started_at).await;
        self.state.lock().await.running.is_none()
    }

    async fn end(&self) {
        let mut state = self.state.lock().await;
        state.ended = true;
        if let Some(running) = state.running.take() {
            self.remove(running).await;
        }
    }

    async fn remove(&self, running: Running) {
        match timeout(COME_UP, self.engine.remove(&running.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, helper = %running.id, "a helper could not be removed"),
            Err(_) => tracing::warn!(helper = %running.id, "a helper could not be removed in time"),
        }
        // After, not before: it ends with its connection and would be removing itself meanwhile.
        drop(running);
    }

    async fn begin(&self) -> io::Result<Running> {
        let target = self.engine.container(&self.target).await.map_err(other)?;
        let target = target
            .filter(|target| target.phase == Phase::Running)
            .ok_or_else(|| not_connected("the container does not run".into()))?;
        let image = self.image().await?;
        let shared = shared_folder(&self.host)?;
        let listener = HelperListener::bind(shared.path())?;
        let spec = self.spec(&image, shared.path())?;
        let id = self.engine.create(&spec).await.map_err(other)?;
        let come = async {
            self.engine.start(&id).await.map_err(other)?;
            tokio::select! {
                inside = listener.accept(COME_UP) => inside,
                exit = self.engine.exited(&id) => Err(io::Error::other(match exit {
                    Ok(exit) => format!("the helper ended at once{}", code(exit.code)),
                    Err(error) => error.to_string(),
                })),
            }
        };
        let come = come.await;
        // Connected or not, nothing looks at the folder again.
        drop(shared);
        match come {
            Ok(inside) => Ok(Running {
                inside: Arc::new(inside),
                id,
                target_started_at: target.started_at,
            }),
            Err(error) => {
                if let Err(left) = self.engine.remove(&id).await {
                    tracing::warn!(error = %left, helper = %id, "a helper could not be removed");
                }
                Err(error)
            }
        }
    }

    fn spec(&self, image: &str, shared: &Path) -> io::Result<ContainerSpec> {
        let facts = self.engine.facts();
        let user = if facts.rootless {
            // Root in there is this user out here.
            "0:0".to_owned()
        } else {
            format!("{}:{}", self.host.uid, self.host.gid)
        };
        Ok(ContainerSpec {
            name: format!("jq-inside-{}-{}", self.session, random_hex::<4>()?),
            image: image.to_owned(),
            entrypoint: Some(vec![BINARY.to_owned()]),
            command: Some(
                ["inside", "--socket", "/run/jq/inside.sock"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            user: Some(user),
            labels: ownership::helper_labels(&self.host, &self.session),
            mounts: vec![Mount {
                source: MountSource::Host(shared.to_string_lossy().into_owned()),
                destination: SHARED.to_owned(),
                read_only: false,
            }],
            network_of: Some(self.target.clone()),
            confined: true,
            host_users: facts.remapped,
            ..ContainerSpec::default()
        })
    }
}

/// A fresh folder that only this user may enter. In /tmp, because engines see that even where homes are on a network
/// file system that keeps root out.
fn shared_folder(host: &HostContext) -> io::Result<TempDir> {
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

fn code(code: Option<i64>) -> String {
    code.map_or_else(String::new, |code| format!(" with exit code {code}"))
}

fn not_connected(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, why)
}

fn other(error: EngineError) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, error)
}

#[cfg(test)]
mod tests;
