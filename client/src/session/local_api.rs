//! Local API of a running session: a Unix socket over which other processes of the same user query it.
//!
//! A connection carries one request and one answer, each a line of JSON. The socket is named after the session, in a folder
//! that only the user can enter; the peer's uid is checked as well.

use std::{
    convert::Infallible,
    ffi::OsStr,
    fs::{self, File, Permissions},
    io,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net as unix,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jq_common::{peer_cred::accept_own, private_files::create_folder, protocol::profile};
use rustix::{fs::FlockOperation, process::geteuid};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Notify, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{
    state::SOCKET_PATH_LIMIT,
    status::{AskError, Snapshot},
};

const SUFFIX: &str = ".control";

/// Limits of a request and an answer, in bytes.
const REQUEST: u64 = 4096;
const ANSWER: u64 = 1024 * 1024;

/// Timeout for the peer's line, on either side.
const DEADLINE: Duration = Duration::from_secs(2);

/// Limit of connections that are served at a time; further ones wait.
const AT_ONCE: usize = 16;

/// A request. Every request also makes a disconnected session retry at once.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Status,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Status(Box<Snapshot>),
    Refused(String),
}

/// Folder of the sockets: `runtime_dir`, or a private one in /tmp if socket paths in `runtime_dir` could be too long.
#[must_use]
pub(crate) fn folder(runtime_dir: &Path) -> PathBuf {
    if runtime_dir.as_os_str().len() + 1 + profile::LONGEST + SUFFIX.len() <= SOCKET_PATH_LIMIT {
        runtime_dir.to_owned()
    } else {
        PathBuf::from(format!("/tmp/jq-sockets-{}", geteuid().as_raw()))
    }
}

/// Names of sessions with a socket in `folder`, sorted. Their processes may be dead.
#[must_use]
pub(crate) fn sessions(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(SUFFIX)?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Queries the status of a session.
///
/// # Errors
/// An [`AskError`] when it does not answer.
pub(crate) async fn ask(folder: &Path, session: &str) -> Result<Snapshot, AskError> {
    let mut pid = None;
    let asked = timeout(DEADLINE, async {
        let mut stream = match UnixStream::connect(socket(folder, session)).await {
            Err(error) if is_nobody(&error) => return Err(AskError::NotRunning),
            other => other?,
        };
        let peer = stream.peer_cred()?;
        pid = peer.pid();
        if peer.uid() != geteuid().as_raw() {
            return Err(io::Error::other("its socket belongs to another user").into());
        }
        let mut line = serde_json::to_vec(&Request::Status).map_err(io::Error::from)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let line = read_line(&mut stream, ANSWER).await?;
        match serde_json::from_slice(&line) {
            Ok(Answer::Status(snapshot)) => Ok(*snapshot),
            Ok(Answer::Refused(_)) | Err(_) => Err(AskError::Unreadable { pid }),
        }
    });
    match asked.await {
        Ok(answered) => answered,
        Err(_) => Err(AskError::Silent { pid }),
    }
}

/// The socket of a session. Dropping it removes the file.
pub(crate) struct LocalApi {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, so that another process's socket of the same name is not removed.
    file: (u64, u64),
}

impl LocalApi {
    /// Creates the socket of `session` in `folder` (see [`folder`]), and replaces one of a dead process. None if another
    /// process runs a session of that name. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the folder or the socket cannot be created.
    pub(crate) fn bind(folder: &Path, session: &str) -> io::Result<Option<Self>> {
        create_folder(folder)?;
        let path = socket(folder, session);
        // Two processes that find the same dead socket must not remove each other's new one.
        let alone = File::open(folder)?;
        rustix::fs::flock(&alone, FlockOperation::LockExclusive)?;
        match unix::UnixStream::connect(&path) {
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if is_nobody(&error) => fs::remove_file(&path)?,
            Err(error) => return Err(error),
        }
        let listener = unix::UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Some(Self {
            listener: UnixListener::from_std(listener)?,
            file: identity(&path)?,
            path,
        }))
    }

    /// Answers requests with the newest snapshot while it is polled, and notifies `poke` of each.
    pub(crate) async fn serve(self, snapshot: watch::Receiver<Snapshot>, poke: Arc<Notify>) -> Infallible {
        let mut peers = JoinSet::new();
        loop {
            while peers.len() >= AT_ONCE {
                peers.join_next().await;
            }
            let stream = accept_own(&self.listener).await;
            let (snapshot, poke) = (snapshot.clone(), poke.clone());
            peers.spawn(async move {
                let answered = timeout(DEADLINE, answer(stream, &snapshot, &poke)).await;
                tracing::debug!(?answered, "local API");
            });
            while peers.try_join_next().is_some() {}
        }
    }
}

impl Drop for LocalApi {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    snapshot: &watch::Receiver<Snapshot>,
    poke: &Notify,
) -> io::Result<()> {
    let line = read_line(&mut stream, REQUEST).await?;
    let answer = match serde_json::from_slice(&line) {
        Ok(Request::Status) => {
            poke.notify_one();
            let mut snapshot = snapshot.borrow().clone();
            if let Some(url) = &mut snapshot.url {
                url.truncate(url.find(['?', '#']).unwrap_or(url.len()));
            }
            Answer::Status(Box::new(snapshot))
        }
        Err(error) => Answer::Refused(error.to_string()),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Reads one line, without its line break.
async fn read_line(stream: &mut UnixStream, limit: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(limit))
        .read_until(b'\n', &mut line)
        .await?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn socket(folder: &Path, session: &str) -> PathBuf {
    let mut name = OsStr::new(session).to_owned();
    name.push(SUFFIX);
    folder.join(name)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Whether there is no socket, or its process is dead.
fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests;
