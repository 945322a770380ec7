//! A thread in the network namespace of a host or container that runs tasks there.

use std::{future::Future, pin::Pin, thread};

use anyhow::{Context as _, Result};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};

use crate::lab::{Host, Lab};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A single-threaded runtime in a network namespace. Dropping it ends its tasks, which closes their sockets, and waits for
/// them.
pub struct NetThread {
    sender: Option<UnboundedSender<Task>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl NetThread {
    /// A thread in the network namespace of a host.
    ///
    /// # Errors
    /// When the host's network namespace cannot be entered.
    pub fn on(host: &Host) -> Result<Self> {
        // A new thread inherits the network namespace of the thread that starts it.
        host.enter(Self::here)?
    }

    /// A thread in the network namespace of a running container: its loopback is the container's.
    ///
    /// # Errors
    /// When the container does not exist, or its network namespace cannot be entered.
    pub fn in_container(lab: &Lab, id: &str) -> Result<Self> {
        lab.enter_container(id, Self::here)?
    }

    /// A thread in the caller's network namespace.
    ///
    /// # Errors
    /// When the thread or the runtime cannot be started.
    pub fn here() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let (sender, tasks) = unbounded_channel();
        let thread = thread::Builder::new()
            .name("oracle".into())
            .spawn(move || runtime.block_on(run(tasks)))
            .context("cannot start a thread")?;
        Ok(Self {
            sender: Some(sender),
            thread: Some(thread),
        })
    }

    /// Starts a task. It ends when this is dropped, at the latest.
    pub(crate) fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(sender) = &self.sender {
            // Fails only if the thread has panicked, which joining it reports.
            let _ = sender.send(Box::pin(task));
        }
    }
}

async fn run(mut arriving: UnboundedReceiver<Task>) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            task = arriving.recv() => match task {
                Some(task) => { tasks.spawn(task); }
                None => return,
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

impl Drop for NetThread {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
