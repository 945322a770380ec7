//! The network helper of one container: started on demand, and again when it is gone or in an outdated network; removed
//! when its container has ended, and when nobody has used it for a while.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    net::TcpStream,
    runtime::Handle,
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};
use tokio_util::{
    either::Either,
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    error::{engine_failed, not_connected},
    image, spec,
};
use crate::{
    engine::{ContainerEngine, Phase},
    netns_helper::{HelperConnection, in_container},
    workload::{Connected, HostContext, RunningWorkload},
};

/// Time limit for a helper to connect after its start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Time before another attempt after a failed start.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Least time between two checks, after refused connections, whether the container was restarted.
const RESTART_CHECK: Duration = Duration::from_secs(1);

/// Interval between looks at a container that has stopped: at first, and at most.
const STOPPED_INTERVALS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// How long a helper that nobody uses is kept: most clients that leave are back soon.
pub(super) const UNUSED: Duration = Duration::from_secs(30);
/// Pause before the engine is asked again when the container's end is waited for and the engine is away.
const WATCH_AGAIN: Duration = Duration::from_secs(5);

/// A running container, reached through its network helper. The helper is kept for as long as there is one of these.
pub(super) struct ContainerWorkload {
    helper: Arc<Helper>,
    /// Start time of the run of the container that this is about.
    started_at: String,
}

impl ContainerWorkload {
    /// Uses this helper, for the run of its container that began at `started_at`.
    pub(super) fn new(helper: Arc<Helper>, started_at: String) -> Self {
        helper.uses.fetch_add(1, Ordering::Relaxed);
        Self { helper, started_at }
    }
}

impl Drop for ContainerWorkload {
    fn drop(&mut self) {
        let helper = self.helper.clone();
        // Without a runtime the process is ending, and its helpers with it.
        if helper.uses.fetch_sub(1, Ordering::Relaxed) == 1
            && let Ok(runtime) = Handle::try_current()
        {
            let removal = async move {
                sleep(UNUSED).await;
                helper.remove_unused().await;
            };
            self.helper.tasks.spawn_on(removal, &runtime);
        }
    }
}

impl RunningWorkload for ContainerWorkload {
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move { Ok(Either::Left(self.helper.dial(port).await?)) })
    }

    fn restarted(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.helper.runs_again(&self.started_at))
    }
}

/// The network helper of one container, running or to be started.
pub(crate) struct Helper {
    host: Arc<HostContext>,
    hash: Arc<OnceCell<String>>,
    engine: Arc<dyn ContainerEngine>,
    target: String,
    session: String,
    state: tokio::sync::Mutex<State>,
    tasks: TaskTracker,
    /// How many workloads use it.
    uses: AtomicUsize,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    ended: bool,
    /// Time and reason of the last failed start.
    failed: Option<(Instant, String)>,
    /// Time of the last check whether the container was restarted.
    restart_checked: Option<Instant>,
}

struct Running {
    connection: Arc<HelperConnection>,
    id: String,
    /// Start time of the container whose network the helper is in.
    target_started_at: String,
    /// Cancelled with this: ends the wait for the end of that container.
    watch: CancellationToken,
    _until: DropGuard,
}

impl Helper {
    /// A helper that is not running yet, for the container and session of `target`.
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
            uses: AtomicUsize::new(0),
        }
    }

    pub(crate) async fn dial(self: &Arc<Self>, port: u16) -> io::Result<TcpStream> {
        let connection = self.running().await?;
        let error = match connection.dial(port).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let again = match error.kind() {
            io::ErrorKind::BrokenPipe => {
                self.forget(&connection).await;
                true
            }
            // A restarted container has a new network, while the helper is still in the old one.
            io::ErrorKind::ConnectionRefused => self.target_restarted().await,
            _ => false,
        };
        if again {
            self.running().await?.dial(port).await
        } else {
            Err(error)
        }
    }

    /// Returns the running helper, and starts it if there is none. The start is a task of its own, so that it completes
    /// even if the caller gives up.
    pub(super) async fn running(self: &Arc<Self>) -> io::Result<Arc<HelperConnection>> {
        if let Some(running) = &self.state.lock().await.running {
            return Ok(running.connection.clone());
        }
        let helper = self.clone();
        self.tasks
            .spawn(async move {
                let mut state = helper.state.lock().await;
                if let Some(running) = &state.running {
                    return Ok(running.connection.clone());
                }
                if state.ended {
                    return Err(not_connected("the agent is shutting down".into()));
                }
                if let Some((when, why)) = &state.failed
                    && when.elapsed() < RETRY_AFTER
                {
                    return Err(not_connected(why.clone()));
                }
                match helper.start().await {
                    Ok(running) => {
                        helper.watch_target(&running);
                        let connection = running.connection.clone();
                        state.failed = None;
                        state.running = Some(running);
                        Ok(connection)
                    }
                    Err(error) => {
                        tracing::info!(container = %helper.target, %error, "no network helper");
                        state.failed = Some((Instant::now(), error.to_string()));
                        Err(error)
                    }
                }
            })
            .await
            .map_err(io::Error::other)?
    }

    /// Forgets this connection if it is still the current one.
    async fn forget(&self, gone: &Arc<HelperConnection>) {
        let mut state = self.state.lock().await;
        if state
            .running
            .as_ref()
            .is_some_and(|running| Arc::ptr_eq(&running.connection, gone))
        {
            state.running = None;
        }
    }

    /// Removes the helper if it was started for an earlier run of the container.
    pub(super) async fn remove_outdated(&self, started_at: &str) {
        let mut state = self.state.lock().await;
        // A new request does not wait for the time after a failed start.
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

    /// Resolves when the container runs again, after the run that began at `started_at` has ended.
    async fn runs_again(&self, started_at: &str) {
        let (mut pause, longest) = STOPPED_INTERVALS;
        loop {
            // An engine that does not answer may do so later.
            let _ = self.engine.exited(&self.target).await;
            if let Ok(Some(target)) = self.engine.container(&self.target).await
                && target.phase == Phase::Running
            {
                if target.started_at != started_at {
                    return;
                }
                pause = STOPPED_INTERVALS.0;
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn target_restarted(&self) -> bool {
        {
            let mut state = self.state.lock().await;
            if state
                .restart_checked
                .is_some_and(|checked| checked.elapsed() < RESTART_CHECK)
            {
                return false;
            }
            state.restart_checked = Some(Instant::now());
        }
        let Ok(Some(target)) = self.engine.container(&self.target).await else {
            return false;
        };
        if target.phase != Phase::Running {
            return false;
        }
        self.remove_outdated(&target.started_at).await;
        self.state.lock().await.running.is_none()
    }

    /// Removes the helper once its container has ended.
    fn watch_target(self: &Arc<Self>, running: &Running) {
        let (id, stop) = (running.id.clone(), running.watch.clone());
        let helper = Arc::downgrade(self);
        let (engine, target) = (self.engine.clone(), self.target.clone());
        self.tasks.spawn(stop.run_until_cancelled_owned(async move {
            while let Err(error) = engine.exited(&target).await {
                tracing::debug!(%error, "the engine is away");
                sleep(WATCH_AGAIN).await;
            }
            if let Some(helper) = helper.upgrade() {
                helper.remove_ended(&id).await;
            }
        }));
    }

    /// Removes the helper `id`, whose container has ended, unless another one has taken its place.
    async fn remove_ended(&self, id: &str) {
        let mut state = self.state.lock().await;
        if state.running.as_ref().is_some_and(|running| running.id == id)
            && let Some(ended) = state.running.take()
        {
            self.remove(ended).await;
        }
    }

    /// Removes the helper unless somebody uses it again.
    async fn remove_unused(&self) {
        let mut state = self.state.lock().await;
        if self.uses.load(Ordering::Relaxed) == 0
            && let Some(unused) = state.running.take()
        {
            self.remove(unused).await;
        }
    }

    pub(super) async fn end(&self) {
        let mut state = self.state.lock().await;
        state.ended = true;
        if let Some(running) = state.running.take() {
            self.remove(running).await;
        }
    }

    async fn remove(&self, running: Running) {
        match timeout(START_TIMEOUT, self.engine.remove(&running.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, helper = %running.id, "a network helper could not be removed");
            }
            Err(_) => tracing::warn!(helper = %running.id, "a network helper was not removed in time"),
        }
        // Not earlier: a helper removes itself when its connection ends, which would race with the removal.
        drop(running);
    }

    /// Connects to the helper in the container `id`.
    async fn connect(&self, id: &str, socket: &str) -> io::Result<HelperConnection> {
        let container = self.engine.container(id).await.map_err(engine_failed)?;
        let pid = container
            .and_then(|container| container.pid)
            .ok_or_else(|| not_connected("the engine names no process of the network helper".into()))?;
        HelperConnection::connect(&in_container(pid, socket), Some(pid), START_TIMEOUT)
            .await
            .map_err(|error| unreachable(pid, &error))
    }

    async fn start(&self) -> io::Result<Running> {
        let target = self.engine.container(&self.target).await.map_err(engine_failed)?;
        let target = target
            .filter(|target| target.phase == Phase::Running)
            .ok_or_else(|| not_connected("the container is not running".into()))?;
        let image = image::find_or_import(&*self.engine, &self.host, &self.hash).await?;
        let socket = spec::socket_path()?;
        let spec = spec::spec(
            &self.host,
            self.engine.facts(),
            (&self.target, &self.session),
            &image,
            &socket,
        )?;
        let id = self.engine.create(&spec).await.map_err(engine_failed)?;
        let connected = async {
            self.engine.start(&id).await.map_err(engine_failed)?;
            tokio::select! {
                connection = self.connect(&id, &socket) => connection,
                exit = self.engine.exited(&id) => Err(io::Error::other(match exit {
                    Ok(exit) => format!("the network helper exited immediately{}", code(exit.code)),
                    Err(error) => error.to_string(),
                })),
            }
        };
        let connected = connected.await;
        match connected {
            Ok(connection) => {
                let watch = CancellationToken::new();
                Ok(Running {
                    connection: Arc::new(connection),
                    id,
                    target_started_at: target.started_at,
                    _until: watch.clone().drop_guard(),
                    watch,
                })
            }
            Err(error) => {
                if let Err(left) = self.engine.remove(&id).await {
                    tracing::warn!(error = %left, helper = %id, "a network helper could not be removed");
                }
                Err(error)
            }
        }
    }
}

/// Why the socket of a helper's process cannot be opened.
fn unreachable(pid: u32, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            " (your own processes in containers must be visible to you in /proc)"
        }
        io::ErrorKind::TimedOut => " (the engine may run in another process namespace or on another machine)",
        _ => "",
    };
    io::Error::new(
        error.kind(),
        format!(
            "the network helper, process {pid}, cannot be reached through /proc/{pid}/root: {error}{hint}"
        ),
    )
}

fn code(code: Option<i64>) -> String {
    code.map_or_else(String::new, |code| format!(" with exit code {code}"))
}
