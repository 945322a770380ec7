//! State that outlives an agent: each session name's token, and the records that identify its container or process.
//!
//! Files have mode 0600 and are replaced atomically.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{private_files, random_hex::random_hex, run_blocking::run_blocking};

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
    /// The port it listens on.
    pub(crate) port: u16,
    /// `lab` or `notebook`.
    #[serde(default)]
    pub(crate) verb: String,
    /// Jupyter's root directory.
    #[serde(default)]
    pub(crate) workdir: String,
}

/// Held while a session's workload is being started.
pub(crate) struct SessionLock(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl SessionStore {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join("sessions"),
        }
    }

    /// Waits until no other agent of this user on this host is starting the same session's workload.
    pub(crate) async fn lock(&self, session: &str) -> io::Result<SessionLock> {
        let (store, path) = (self.clone(), self.file(session, "lock"));
        run_blocking(move || {
            private_files::create_folder(&store.dir)?;
            Ok(SessionLock(private_files::lock(&path)?))
        })
        .await
    }

    /// The session's token; creates it on first use.
    pub(crate) async fn token(&self, session: &str) -> io::Result<String> {
        let (store, path) = (self.clone(), self.token_file(session));
        run_blocking(move || store.read_or_create_token(&path)).await
    }

    fn read_or_create_token(&self, path: &Path) -> io::Result<String> {
        match fs::read_to_string(path) {
            // An empty token would disable Jupyter's authentication.
            Ok(token) if is_token(&token) => return Ok(token),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let token = random_hex::<24>()?;
        self.write(path, token.as_bytes())?;
        Ok(token)
    }

    /// The file that holds the session's token, without a newline.
    pub(crate) fn token_file(&self, session: &str) -> PathBuf {
        self.file(session, "token")
    }

    /// The file that a process of the session writes its output to.
    pub(crate) fn log_file(&self, session: &str) -> PathBuf {
        self.file(session, "log")
    }

    pub(crate) fn container(&self, session: &str) -> Option<ContainerRecord> {
        self.read(&self.file(session, "container"))
    }

    pub(crate) async fn set_container(&self, session: &str, record: &ContainerRecord) -> io::Result<()> {
        self.write_record(self.file(session, "container"), record).await
    }

    pub(crate) fn process(&self, session: &str) -> Option<ProcessRecord> {
        self.read(&self.file(session, "process"))
    }

    pub(crate) async fn set_process(&self, session: &str, record: &ProcessRecord) -> io::Result<()> {
        self.write_record(self.file(session, "process"), record).await
    }

    fn file(&self, session: &str, kind: &str) -> PathBuf {
        self.dir.join(format!("{session}.{kind}"))
    }

    fn read<T: DeserializeOwned>(&self, path: &Path) -> Option<T> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
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

fn is_token(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::{fs::TryLockError, os::unix::fs::PermissionsExt, pin::pin};

    use futures_util::poll;

    use super::*;
    use crate::golden::{Golden, pretty};

    #[tokio::test]
    async fn a_sessions_token_is_kept_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let store = SessionStore::new(dir.path());
        let token = store.token("a").await.unwrap();
        assert_eq!(store.token("a").await.unwrap(), token);
        assert_ne!(store.token("b").await.unwrap(), token);
        assert!(is_token(&token));
        let file = store.token_file("a");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let folder = fs::metadata(file.parent().unwrap()).unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn only_one_agent_at_a_time_starts_a_session() {
        let dir = tempfile::tempdir().unwrap();
        let store = SessionStore::new(dir.path());
        let first = store.lock("a").await.unwrap();
        store.lock("b").await.unwrap();
        let file = File::open(store.file("a", "lock")).unwrap();
        assert!(matches!(file.try_lock(), Err(TryLockError::WouldBlock)));
        let mut second = pin!(store.lock("a"));
        assert!(poll!(&mut second).is_pending());
        drop(first);
        second.await.unwrap();
    }

    #[tokio::test]
    async fn an_empty_token_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let store = SessionStore::new(dir.path());
        store.token("a").await.unwrap();
        fs::write(store.token_file("a"), "").unwrap();
        assert!(is_token(&store.token("a").await.unwrap()));
    }

    #[tokio::test]
    async fn records_are_read_back_and_damaged_ones_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let store = SessionStore::new(dir.path());
        assert_eq!(store.container("a"), None);
        let record = ContainerRecord {
            nonce: "n".into(),
            id: Some("i".into()),
            engine: None,
        };
        store.set_container("a", &record).await.unwrap();
        assert_eq!(store.container("a"), Some(record));
        fs::write(store.file("a", "container"), "junk").unwrap();
        assert_eq!(store.container("a"), None);
    }

    #[test]
    fn records_are_what_their_golden_files_say() {
        let container = ContainerRecord {
            nonce: "0123456789abcdef".to_owned(),
            id: Some("fedcba9876543210".to_owned()),
            engine: Some(EngineRecord {
                kind: "docker".to_owned(),
                socket: "/var/run/docker.sock".into(),
            }),
        };
        let process = ProcessRecord {
            pid: 4242,
            start_time: 77_777,
            port: 8888,
            verb: "lab".to_owned(),
            workdir: "/home/ada".to_owned(),
        };
        let text = |record: Vec<u8>| pretty(&record);
        let mut golden = Golden::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/session_store"));
        let written = text(serde_json::to_vec(&container).unwrap());
        golden.check("container.json", &container, &written, |text| {
            serde_json::from_str(text).ok()
        });
        golden.is_read_as("newer_container.json", &container, |text| {
            serde_json::from_str(text).ok()
        });
        let older = ContainerRecord {
            id: None,
            engine: None,
            ..container
        };
        golden.is_read_as("older_container.json", &older, |text| {
            serde_json::from_str(text).ok()
        });
        let written = text(serde_json::to_vec(&process).unwrap());
        golden.check("process.json", &process, &written, |text| {
            serde_json::from_str(text).ok()
        });
        golden.is_read_as("newer_process.json", &process, |text| {
            serde_json::from_str(text).ok()
        });
        let older = ProcessRecord {
            verb: String::new(),
            workdir: String::new(),
            ..process
        };
        golden.is_read_as("older_process.json", &older, |text| {
            serde_json::from_str(text).ok()
        });
        golden.finish();
    }

    #[test]
    fn a_record_without_what_tells_its_container_or_process_is_none() {
        assert!(serde_json::from_str::<ContainerRecord>("{}").is_err());
        assert!(serde_json::from_str::<ProcessRecord>(r#"{"port":8888}"#).is_err());
    }
}
