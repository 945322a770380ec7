//! A thread in a host's or container's network namespace that runs tasks there.

use std::{future::Future, pin::Pin, thread};

use anyhow::{Context as _, Result};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};

use crate::lab::{Host, Lab};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A runtime of one thread. Dropped, it ends its tasks, which closes their sockets, and waits for that.
pub struct Room {
    door: Option<UnboundedSender<Task>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Room {
    /// One whose sockets belong to this host's network.
    ///
    /// # Errors
    /// When the host's network cannot be entered.
    pub fn on(host: &Host) -> Result<Self> {
        // A thread stays in the network of the one that started it.
        host.enter(Self::here)?
    }

    /// One whose sockets belong to the network of a running container: its loopback is the container's.
    ///
    /// # Errors
    /// When there is no such container, or its network cannot be entered.
    pub fn in_container(lab: &Lab, id: &str) -> Result<Self> {
        lab.enter_container(id, Self::here)?
    }

    /// One in the network that the caller stands in.
    ///
    /// # Errors
    /// When there is no thread or runtime to be had.
    pub fn here() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let (door, tasks) = unbounded_channel();
        let thread = thread::Builder::new()
            .name("oracle".into())
            .spawn(move || runtime.block_on(run(tasks)))
            .context("cannot start a thread")?;
        Ok(Self {
            door: Some(door),
            thread: Some(thread),
        })
    }

    /// Starts a task. It ends at the latest with the room.
    pub(crate) fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(door) = &self.door {
            // Closed only when the thread panicked, which its join will tell.
            let _ = door.send(Box::pin(task));
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

impl Drop for Room {
    fn drop(&mut self) {
        self.door = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
