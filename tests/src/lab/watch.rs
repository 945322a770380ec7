//! Searches the logs of a lab's agents, relays and helpers for panics while the lab is up.

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

/// Interval between reads. It is shorter than the restart of an agent over SSH, which truncates the agent's log.
const PAUSE: Duration = Duration::from_millis(100);

/// The folders, besides `TMPDIR`, into which an agent is installed if the home cannot be used.
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// A thread that reads logs as they grow.
#[derive(Debug)]
pub(super) struct LogWatch {
    stop: Sender<()>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl LogWatch {
    /// Starts to read the logs of these hosts' users and, if the lab has an engine, of its containers.
    pub(super) fn start(hosts: &[Host], has_engine: bool) -> Self {
        let folders = hosts.iter().flat_map(agent_folders).collect::<Vec<_>>();
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            let (mut reader, mut found) = (Reader::default(), BTreeSet::new());
            loop {
                let is_last = stopped.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout);
                for log in logs(&folders, has_engine) {
                    found.extend(reader.new_panics(&log));
                }
                if is_last {
                    return found;
                }
            }
        });
        Self { stop, thread }
    }

    /// Reads all logs once more. Returns all panics since the start.
    pub(super) fn finish(self) -> BTreeSet<String> {
        // Fails only if the thread has ended, which its result reports.
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
