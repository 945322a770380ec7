//! The tasks that look for a connection: a search, a bootstrap over ssh, an attempt over an ssh channel, one of each at most.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jq_common::bootstrap::MachineId;
use tokio::time::sleep;

use crate::{
    agent::Pipe,
    connection::{
        bootstrap::{Bootstrapper, Reached, Ssh},
        interaction::Interaction,
        paths::Path,
        race::{Carried, SearchError, Searcher},
        rank::Rank,
        wakeup::keys::Keys,
    },
    error::Failure,
};

/// A task, if it runs.
type Task<T> = Option<BoxFuture<'static, T>>;

/// Result of a search: the cause for each path if every path was refused.
type Searched = Result<Carried, Vec<(Path, SearchError)>>;

/// Result of an attempt over an ssh channel.
type PipeTried = Result<(Carried, Ssh), SearchError>;

/// The tasks under way. Dropping one stops it.
#[derive(Default)]
pub(super) struct Tasks {
    search: Task<Searched>,
    bootstrap: Task<Result<Reached, Failure>>,
    pipe: Task<PipeTried>,
    /// The ssh channel of the last bootstrap, until it is tried.
    kept_pipe: Option<(Pipe, Ssh)>,
}

/// A task that ended by itself.
pub(super) enum Ended {
    Search(Searched),
    Bootstrap(Result<Reached, Failure>),
    Pipe(PipeTried),
}

impl Tasks {
    /// Waits until a task ends. Cancel safe.
    pub(super) async fn next(&mut self) -> Ended {
        tokio::select! {
            searched = end_of(&mut self.search) => Ended::Search(searched),
            reached = end_of(&mut self.bootstrap) => Ended::Bootstrap(reached),
            tried = end_of(&mut self.pipe) => Ended::Pipe(tried),
        }
    }

    /// Tries `paths` after a pause, each repeatedly.
    pub(super) fn search(&mut self, searcher: Searcher, paths: Vec<Path>, pause: Duration) {
        self.search = Some(Box::pin(async move {
            sleep(pause).await;
            searcher.search(paths).await
        }));
    }

    /// Tries the paths in `better` from time to time; they are better than the rank `current`.
    pub(super) fn improve(&mut self, searcher: Searcher, better: Vec<Path>, current: Rank) {
        self.search = Some(Box::pin(
            async move { Ok(searcher.improve(better, current).await) },
        ));
    }

    pub(super) fn stop_search(&mut self) {
        self.search = None;
    }

    /// Reaches the agent over ssh, on this machine if it is known. While ssh may ask on the terminal, `keys` is paused.
    pub(super) fn bootstrap(
        &mut self,
        bootstrapper: Arc<Bootstrapper>,
        interaction: Interaction,
        machine: Option<MachineId>,
        keys: Keys,
    ) {
        self.bootstrap = Some(Box::pin(async move {
            let _paused = (interaction == Interaction::Attended).then(|| keys.pause());
            bootstrapper.reach(interaction, machine.as_ref()).await
        }));
    }

    pub(super) fn stop_bootstrap(&mut self) {
        self.bootstrap = None;
    }

    /// Keeps the ssh channel of a bootstrap, if there is one, until it is tried.
    pub(super) fn keep_pipe(&mut self, reached: Reached) {
        let Reached { pipe, ssh, .. } = reached;
        self.kept_pipe = pipe.map(|pipe| (pipe, ssh));
    }

    /// Connects over the ssh channel that was kept, after `head_start`.
    pub(super) fn try_pipe(&mut self, searcher: Searcher, head_start: Duration) {
        let Some((pipe, ssh)) = self.kept_pipe.take() else {
            return;
        };
        self.pipe = Some(Box::pin(async move {
            let carried = searcher.by_pipe(pipe, head_start).await?;
            Ok((carried, ssh))
        }));
    }

    pub(super) fn stop_pipe(&mut self) {
        self.pipe = None;
    }
}

/// Waits for the task's result, and removes the task. Never returns if there is none. Cancel safe.
async fn end_of<T>(task: &mut Task<T>) -> T {
    match task {
        Some(running) => {
            let done = running.await;
            *task = None;
            done
        }
        None => pending().await,
    }
}
