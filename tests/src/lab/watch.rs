//! Looks for panics in the logs of a lab's agents, relays and helpers while the lab is up.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{engine, host::Host};
use crate::panics::{self, Reader};

/// Between two looks: less than an agent takes to be started again over SSH, which empties its log.
const PAUSE: Duration = Duration::from_millis(100);

/// Where an agent is put when it cannot be in the home, besides `TMPDIR`.
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// A thread that reads logs as they grow.
#[derive(Debug)]
pub(super) struct LogWatch {
    stop: Sender<()>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl LogWatch {
    /// Starts to read the logs of these hosts' users, and of the engine's containers if the lab has one.
    pub(super) fn start(hosts: &[Host], has_engine: bool) -> Self {
        let folders = hosts.iter().flat_map(agent_folders).collect::<Vec<_>>();
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            let (mut reader, mut found) = (Reader::default(), BTreeSet::new());
            loop {
                let is_last = stopped.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout);
                for log in logs(&folders, has_engine) {
                    found.extend(reader.look(&log));
                }
                if is_last {
                    return found;
                }
            }
        });
        Self { stop, thread }
    }

    /// Reads what is there once more. Gives all panics of the lab's life.
    pub(super) fn finish(self) -> BTreeSet<String> {
        // Fails only when the thread has ended, which its result tells.
        let _ = self.stop.send(());
        let failed = || BTreeSet::from(["the lab's own thread that reads logs panicked".into()]);
        self.thread.join().unwrap_or_else(|_| failed())
    }
}

fn agent_folders(host: &Host) -> Vec<PathBuf> {
    let name = format!("jq-{}", host.user.uid);
    let temporary = TEMPORARY.iter().map(|folder| Path::new(folder).join(&name));
    temporary.chain([host.home().join(".cache/jq")]).collect()
}

fn logs(folders: &[PathBuf], has_engine: bool) -> Vec<PathBuf> {
    let mut logs: Vec<_> = folders
        .iter()
        .flat_map(|folder| panics::logs_below(folder))
        .collect();
    if has_engine {
        let containers = fs::read_dir(engine::data_root().join("containers"));
        for container in containers.into_iter().flatten().flatten() {
            let id = container.file_name().to_string_lossy().into_owned();
            logs.push(container.path().join(format!("{id}-json.log")));
        }
    }
    logs
}
