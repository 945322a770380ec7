//! State that outlives an agent: each session name's token, and the records that identify its container or process.
//!
//! Files have mode 0600 and are replaced atomically.

use std::{
    fs::{self, DirEntry, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use jq_common::private_files;

use crate::{random_hex::random_hex, run_blocking::run_blocking};

/// The state folder.
#[derive(Clone, Debug)]
pub(crate) struct SessionStore {
    dir: PathBuf,
}

/// Identifies the container of a session name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    /// Random value that the container carries as a label.
    pub(crate) nonce: String,
    /// The container's full id; none while it is being created.
    pub(crate) id: Option<String>,
    /// The engine that has it; none in a record of a build that did not write it.
    #[serde(default)]
    pub(crate) engine: Option<EngineRecord>,
}

/// Identifies an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EngineRecord {
    /// `docker` or `podman`.
    pub(crate) kind: String,
    /// Its socket.
    pub(crate) socket: PathBuf,
}

/// Identifies the process of a session name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRecord {
    /// Process id.
    pub(crate) pid: u32,
    /// Start time in the kernel's ticks since boot; together with the pid it identifies a process.
    pub(crate) start_time: u64,
    /// The port it listens on; 0 when it listens on the socket of its session. Builds before sockets know no other.
    pub(crate) port: u16,
    /// The Unix socket it listens on; none when it listens on a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<PathBuf>,
    /// `lab` or `notebook`.
    #[serde(default)]
    pub(crate) verb: String,
    /// Jupyter's root directory.
    #[serde(default)]
    pub(crate) workdir: String,
}

/// A Jupyter that was started beside the own command of a container.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BesideRecord {
    /// The container's full id.
    pub(crate) container: String,
    /// When the run of the container began that it was started in.
    pub(crate) started_at: String,
    /// The port it listens on; 0 when it listens on a Unix socket.
    pub(crate) port: u16,
    /// Its private folder in the container, with the socket; empty when it listens on a port.
    #[serde(default)]
    pub(crate) folder: String,
    /// The Python that runs it; empty when it listens on a port.
    #[serde(default)]
    pub(crate) python: String,
    /// Its token. A secret.
    pub(crate) token: String,
}

impl std::fmt::Debug for BesideRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BesideRecord")
            .field("container", &self.container)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Whose token it is. Each container and each start of a process gets another one: what learns it may belong to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenOf {
    /// Of the session's own container.
    Container,
    /// Of the session's process.
    Process,
}

impl TokenOf {
    fn kind(self) -> &'static str {
        match self {
            Self::Container => "container-token",
            Self::Process => "process-token",
        }
    }
}

/// What the names of records of a [`BesideRecord`] contain after the session, before the container's id.
const BESIDE: &str = "beside-";

/// Held while a session's workload is being started.
pub(crate) struct SessionLock(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl SessionStore {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join("sessions"),
        }
    }

    /// Takes the lock of a session, unless another agent of this user on this host is starting its workload.
    pub(crate) async fn try_lock(&self, session: &str) -> io::Result<Option<SessionLock>> {
        let (store, path) = (self.clone(), self.file(session, "lock"));
        run_blocking(move || {
            private_files::create_folder(&store.dir)?;
            Ok(private_files::try_lock(&path)?.map(SessionLock))
        })
        .await
    }

    /// Makes a token and keeps it as the one of `of`.
    pub(crate) async fn new_token(&self, session: &str, of: TokenOf) -> io::Result<String> {
        let (store, path) = (self.clone(), self.token_file(session, of));
        run_blocking(move || {
            let token = fresh_token()?;
            store.write(&path, token.as_bytes())?;
            Ok(token)
        })
        .await
    }

    /// The token of `of`. None when there is none, or when it is damaged: an empty one would disable authentication.
    pub(crate) async fn token(&self, session: &str, of: TokenOf) -> Option<String> {
        match read_token(self.token_file(session, of)).await {
            None => self.token_of_before(session).await,
            token => token,
        }
    }

    /// The one token that a session had in earlier builds, for all that it started.
    pub(crate) async fn token_of_before(&self, session: &str) -> Option<String> {
        read_token(self.file(session, "token")).await
    }

    /// The file that holds the token of `of`, without a newline.
    pub(crate) fn token_file(&self, session: &str, of: TokenOf) -> PathBuf {
        self.file(session, of.kind())
    }

    /// The socket of a process of the session.
    pub(crate) fn socket_file(&self, session: &str) -> PathBuf {
        self.file(session, "sock")
    }

    /// The file that a process of the session writes its output to, and that keeps the output of what failed to start.
    pub(crate) fn log_file(&self, session: &str) -> PathBuf {
        self.file(session, "log")
    }

    /// Keeps the output of what failed to start. Returns where.
    pub(crate) async fn keep_log(&self, session: &str, lines: Vec<String>) -> io::Result<PathBuf> {
        let (store, path) = (self.clone(), self.log_file(session));
        run_blocking(move || {
            store.write(&path, (lines.join("\n") + "\n").as_bytes())?;
            Ok(path)
        })
        .await
    }

    /// The Jupyter that this session started beside the own command of the container with this id.
    pub(crate) async fn beside(&self, session: &str, container: &str) -> Option<BesideRecord> {
        let record: BesideRecord = read(self.beside_file(session, container)).await?;
        (record.container == container && is_token(&record.token)).then_some(record)
    }

    pub(crate) async fn set_beside(&self, session: &str, record: &BesideRecord) -> io::Result<()> {
        let path = self.beside_file(session, &record.container);
        self.write_record(path, record).await
    }

    /// All containers beside whose own command this session started a Jupyter.
    pub(crate) async fn all_beside(&self, session: &str) -> Vec<String> {
        let (dir, prefix) = (self.dir.clone(), format!("{session}.{BESIDE}"));
        let list = move || {
            let entries = fs::read_dir(dir)?.flatten();
            let is_beside = |entry: &DirEntry| entry.file_name().to_string_lossy().starts_with(&prefix);
            let records = entries.filter(is_beside).filter_map(|entry| {
                let record: BesideRecord = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
                Some(record.container)
            });
            Ok::<_, io::Error>(records.collect())
        };
        run_blocking(list).await.unwrap_or_default()
    }

    /// Forgets the Jupyter beside the own command of a container that is gone.
    pub(crate) async fn forget_beside(&self, session: &str, container: &str) {
        let path = self.beside_file(session, container);
        // Fails only when it is forgotten already.
        let _ = run_blocking(move || fs::remove_file(path)).await;
    }

    fn beside_file(&self, session: &str, container: &str) -> PathBuf {
        let id: String = container
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(16)
            .collect();
        self.file(session, &format!("{BESIDE}{id}"))
    }

    pub(crate) async fn container(&self, session: &str) -> Option<ContainerRecord> {
        read(self.file(session, "container")).await
    }

    pub(crate) async fn set_container(&self, session: &str, record: &ContainerRecord) -> io::Result<()> {
        self.write_record(self.file(session, "container"), record).await
    }

    pub(crate) async fn process(&self, session: &str) -> Option<ProcessRecord> {
        read(self.file(session, "process")).await
    }

    pub(crate) async fn set_process(&self, session: &str, record: &ProcessRecord) -> io::Result<()> {
        self.write_record(self.file(session, "process"), record).await
    }

    fn file(&self, session: &str, kind: &str) -> PathBuf {
        self.dir.join(format!("{session}.{kind}"))
    }

    async fn write_record(&self, path: PathBuf, record: &(impl Serialize + Sync)) -> io::Result<()> {
        let (store, bytes) = (self.clone(), serde_json::to_vec(record)?);
        run_blocking(move || store.write(&path, &bytes)).await
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        private_files::create_folder(&self.dir)?;
        private_files::replace(path, bytes)
    }
}

/// A record. None when it is missing or damaged.
async fn read<T: DeserializeOwned>(path: PathBuf) -> Option<T> {
    let content = run_blocking(move || fs::read(path)).await.ok()?;
    serde_json::from_slice(&content).ok()
}

/// A token. None when it is missing or damaged.
async fn read_token(path: PathBuf) -> Option<String> {
    let token = run_blocking(move || fs::read_to_string(path)).await.ok()?;
    is_token(&token).then_some(token)
}

/// A new random token.
pub(crate) fn fresh_token() -> io::Result<String> {
    random_hex::<24>()
}

fn is_token(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests;
