//! One container's helper: started when it is needed, and again when it is gone or in an old network.

use std::{io, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    net::TcpStream,
    sync::OnceCell,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    error::{engine_failed, not_connected},
    image, spec,
};
use crate::{
    engine::{ContainerEngine, Phase},
    netns_helper::{HelperConnection, HelperListener},
    workload::{HostContext, RunningWorkload},
};

/// How long a helper may take to come up once it is started.
const COME_UP: Duration = Duration::from_secs(20);
/// How long after a failed start the next is tried.
const REST: Duration = Duration::from_secs(2);
/// How often at most a refused connection makes us look whether the container was restarted.
const LOOK: Duration = Duration::from_secs(1);

/// A container that runs, reached through its helper.
pub(super) struct ContainerWorkload(pub(super) Arc<Helper>);

impl RunningWorkload for ContainerWorkload {
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(self.0.dial(port))
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
    /// A helper that does not run yet, for the container and session of `target`.
    pub(super) fn new(
        host: Arc<HostContext>,
        hash: Arc<OnceCell<String>>,
        engine: Arc<dyn ContainerEngine>,
        (target, session): (String, String),
        tasks: TaskTracker,
    ) -> Self {
        Self {
            host,
            hash,
            engine,
            target,
            session,
            state: tokio::sync::Mutex::default(),
            tasks,
        }
    }

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
    pub(super) async fn up(self: &Arc<Self>) -> io::Result<Arc<HelperConnection>> {
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
    pub(super) async fn renew(&self, started_at: &str) {
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

    pub(super) async fn end(&self) {
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
        let target = self.engine.container(&self.target).await.map_err(engine_failed)?;
        let target = target
            .filter(|target| target.phase == Phase::Running)
            .ok_or_else(|| not_connected("the container does not run".into()))?;
        let image = image::find_or_import(&*self.engine, &self.host, &self.hash).await?;
        let shared = spec::shared_folder(&self.host)?;
        let listener = HelperListener::bind(shared.path())?;
        let spec = spec::spec(
            &self.host,
            self.engine.facts(),
            (&self.target, &self.session),
            &image,
            shared.path(),
        )?;
        let id = self.engine.create(&spec).await.map_err(engine_failed)?;
        let come = async {
            self.engine.start(&id).await.map_err(engine_failed)?;
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
}

fn code(code: Option<i64>) -> String {
    code.map_or_else(String::new, |code| format!(" with exit code {code}"))
}
