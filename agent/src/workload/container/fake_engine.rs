//! An engine in memory, for tests. The container of a network helper runs the helper as a task, in this machine's own
//! network namespace.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{io::AsyncWriteExt, process::Command, sync::Notify, task::JoinSet};

use crate::{
    engine::{
        Answer, ContainerEngine, ContainerSpec, ContainerState, Containers, EngineError, EngineFacts, Entry,
        Exec, Exit, ImageFacts, Images, ImportSpec, Phase, PullProgress, credentials::Credential,
    },
    log_tail::Tail,
    netns_helper,
};

/// An engine whose containers run until they are ended.
pub(crate) struct Fake {
    facts: EngineFacts,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
pub(crate) struct State {
    /// Images that the engine has.
    pub(crate) images: HashMap<String, ImageFacts>,
    /// Images that can be pulled.
    pub(crate) registry: HashMap<String, ImageFacts>,
    /// Containers by id.
    pub(crate) containers: BTreeMap<String, FakeContainer>,
    /// All calls that change something, in order: `pull IMAGE`, `create NAME`, `start ID`, `remove ID`.
    pub(crate) calls: Vec<String>,
    /// Errors of the next starts, in order.
    pub(crate) refuse_start: Vec<EngineError>,
    /// The next container ends as soon as it is started.
    pub(crate) ends_first: Option<Exit>,
    /// Containers end as soon as they are started.
    pub(crate) ends_at_once: Option<Exit>,
    /// Output of every container.
    pub(crate) log: Vec<String>,
    /// Output of `nvidia-smi -L` in every container.
    pub(crate) gpus_inside: String,
    /// What the kernel's driver shows of its GPUs in every container.
    pub(crate) driver_inside: String,
    /// Paths of programs in every image.
    pub(crate) programs: Vec<String>,
    /// Tasks of the network helpers, by container.
    roles: HashMap<String, JoinSet<()>>,
    /// Commands run on this machine.
    pub(crate) runs_here: bool,
    /// Output and exit code of any other command; None: it keeps running.
    pub(crate) exec_ends: Option<(String, i64)>,
}

#[derive(Clone, Debug)]
pub(crate) struct FakeContainer {
    pub(crate) spec: ContainerSpec,
    pub(crate) phase: Phase,
    pub(crate) starts: u32,
    pub(crate) files: HashMap<String, Entry>,
    pub(crate) exit: Exit,
}

impl Fake {
    pub(crate) fn new(facts: EngineFacts) -> Arc<Self> {
        Arc::new(Self {
            facts,
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a container that somebody else has created.
    pub(crate) fn add(&self, id: &str, name: &str, phase: Phase) {
        let spec = ContainerSpec {
            name: name.into(),
            image: "theirs".into(),
            ..ContainerSpec::default()
        };
        let container = FakeContainer {
            spec,
            phase,
            starts: 1,
            files: HashMap::new(),
            exit: Exit::default(),
        };
        self.state().containers.insert(id.into(), container);
    }

    pub(crate) fn end(&self, id: &str, exit: Exit) {
        let mut state = self.state();
        let container = state.containers.get_mut(id).expect("no such container");
        container.phase = Phase::Exited;
        container.exit = exit;
        state.roles.remove(id);
        drop(state);
        self.changed.notify_waiters();
    }

    fn with<T>(&self, id: &str, f: impl FnOnce(&mut FakeContainer) -> T) -> Result<T, EngineError> {
        let mut state = self.state();
        let found = state.containers.get_mut(id).map(f);
        found.ok_or_else(|| EngineError::NotFound(id.into()))
    }
}

/// Runs a command on this machine. Dropping the future ends it.
async fn run_here(command: &Exec, output: &Tail) -> Result<Option<i64>, EngineError> {
    let mut child = Command::new(&command.command[0])
        .args(&command.command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| EngineError::CommandMissing(error.to_string()))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), &command.input) {
        stdin.write_all(input).await.expect("a command that reads");
    }
    let ended = child.wait_with_output().await.expect("a child");
    output.write(&ended.stdout);
    output.write(&ended.stderr);
    Ok(ended.status.code().map(Into::into))
}

impl ContainerEngine for Fake {
    fn facts(&self) -> &EngineFacts {
        &self.facts
    }
}

impl Images for Fake {
    fn image<'a>(&'a self, reference: &'a str) -> Answer<'a, Option<ImageFacts>> {
        Box::pin(async move {
            let state = self.state();
            let by_id = || state.images.values().find(|image| image.id == reference);
            Ok(state.images.get(reference).or_else(by_id).cloned())
        })
    }

    fn pull<'a>(
        &'a self,
        reference: &'a str,
        _: Option<&'a Credential>,
        progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            progress(PullProgress {
                done: 1,
                total: Some(2),
                detail: "1 of 2 layers".into(),
            });
            // So that two concurrent pulls would be noticed.
            tokio::task::yield_now().await;
            let mut state = self.state();
            state.calls.push(format!("pull {reference}"));
            let image = state
                .registry
                .get(reference)
                .cloned()
                .ok_or_else(|| EngineError::NotFound("manifest unknown".into()))?;
            state.images.insert(reference.into(), image);
            Ok(())
        })
    }

    fn import<'a>(&'a self, image: &'a ImportSpec, _: Vec<Entry>) -> Answer<'a, String> {
        Box::pin(async move {
            let name = format!("{}:{}", image.repository, image.tag);
            let facts = ImageFacts {
                id: format!("sha256:{}", image.tag),
                labels: image.labels.clone(),
                ..ImageFacts::default()
            };
            let mut state = self.state();
            state.calls.push(format!("import {}", image.repository));
            state.images.insert(name, facts.clone());
            Ok(facts.id)
        })
    }

    fn prune<'a>(&'a self, _: &'a BTreeMap<String, String>, _: &'a str) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

impl Containers for Fake {
    fn container<'a>(&'a self, name: &'a str) -> Answer<'a, Option<ContainerState>> {
        Box::pin(async move {
            let state = self.state();
            let found = state
                .containers
                .iter()
                .find(|(id, container)| id.as_str() == name || container.spec.name == name);
            Ok(found.map(|(id, container)| ContainerState {
                id: id.clone(),
                name: container.spec.name.clone(),
                image: container.spec.image.clone(),
                phase: container.phase,
                started_at: container.starts.to_string(),
                labels: container.spec.labels.clone(),
                user: container.spec.user.clone().unwrap_or_default(),
                workdir: container.spec.workdir.clone().unwrap_or_default(),
                // Its processes are tasks of this one.
                pid: (container.phase == Phase::Running).then(std::process::id),
            }))
        })
    }

    fn create<'a>(&'a self, spec: &'a ContainerSpec) -> Answer<'a, String> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut state = self.state();
            if state
                .containers
                .values()
                .any(|container| container.spec.name == spec.name)
            {
                return Err(EngineError::Conflict(format!("{} is in use", spec.name)));
            }
            let made = state
                .calls
                .iter()
                .filter(|call| call.starts_with("create"))
                .count();
            let id = format!("id{made}");
            state.calls.push(format!("create {}", spec.name));
            let container = FakeContainer {
                spec: spec.clone(),
                phase: Phase::Created,
                starts: 0,
                files: HashMap::new(),
                exit: Exit::default(),
            };
            state.containers.insert(id.clone(), container);
            Ok(id)
        })
    }

    fn start<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let end = {
                let mut state = self.state();
                state.calls.push(format!("start {id}"));
                if !state.refuse_start.is_empty() {
                    return Err(state.refuse_start.remove(0));
                }
                state.ends_first.take().or_else(|| state.ends_at_once.clone())
            };
            self.with(id, |container| {
                container.phase = Phase::Running;
                container.starts += 1;
            })?;
            let spec = self.with(id, |container| container.spec.clone())?;
            if let (true, Some(socket)) = (spec.confined, spec.command.and_then(|mut words| words.pop())) {
                let mut role = JoinSet::new();
                role.spawn(async move {
                    // Ends when the agent closes the connection.
                    let _ = netns_helper::run(Path::new(&socket)).await;
                });
                self.state().roles.insert(id.to_owned(), role);
            } else if let Some(exit) = end {
                self.end(id, exit);
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut state = self.state();
            state.calls.push(format!("remove {id}"));
            state.containers.remove(id);
            state.roles.remove(id);
            drop(state);
            self.changed.notify_waiters();
            Ok(())
        })
    }

    fn exited<'a>(&'a self, id: &'a str) -> Answer<'a, Exit> {
        Box::pin(async move {
            loop {
                let changed = self.changed.notified();
                match self.with(id, |container| (container.phase, container.exit.clone())) {
                    Ok((Phase::Running, _)) => {}
                    Ok((_, exit)) => return Ok(exit),
                    Err(_) => return Ok(Exit::default()),
                }
                changed.await;
            }
        })
    }

    fn log_tail<'a>(&'a self, _: &'a str, lines: usize) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let log = self.state().log.clone();
            Ok(log[log.len().saturating_sub(lines)..].to_vec())
        })
    }

    fn exec<'a>(&'a self, id: &'a str, command: &'a Exec, output: &'a Tail) -> Answer<'a, Option<i64>> {
        Box::pin(async move {
            if self.state().runs_here {
                return run_here(command, output).await;
            }
            let ends = {
                let mut state = self.state();
                if command.command[0] == "nvidia-smi" {
                    output.write(state.gpus_inside.as_bytes());
                    return Ok(Some(0));
                }
                if command
                    .command
                    .iter()
                    .any(|word| word.contains("/proc/driver/nvidia"))
                {
                    output.write(state.driver_inside.as_bytes());
                    return Ok(Some(0));
                }
                state
                    .calls
                    .push(format!("exec {id} {}", command.command[..2].join(" ")));
                state.exec_ends.clone()
            };
            match ends {
                Some((said, code)) => {
                    output.write(said.as_bytes());
                    Ok(Some(code))
                }
                None => std::future::pending().await,
            }
        })
    }

    fn has<'a>(&'a self, id: &'a str, path: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            let in_image = self.state().programs.iter().any(|program| program == path);
            self.with(id, |container| in_image || container.files.contains_key(path))
        })
    }

    fn read<'a>(&'a self, id: &'a str, path: &'a str) -> Answer<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            self.with(id, |container| {
                let entry = container.files.get(path)?;
                Some(entry.content.clone()?.to_vec())
            })
        })
    }

    fn put<'a>(&'a self, id: &'a str, entries: Vec<Entry>) -> Answer<'a, ()> {
        Box::pin(async move {
            self.with(id, |container| {
                for entry in entries {
                    container.files.insert(entry.path.clone(), entry);
                }
            })
        })
    }
}
