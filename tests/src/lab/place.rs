//! The directories of labs on this machine, and the names that a lab assigns. The only reader of the lab's environment
//! variables.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::plan::HostName;
use crate::environment;

/// Four hexadecimal digits that are part of all names of one lab.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LabId(String);

impl LabId {
    /// Creates a new id with its directory, and takes the lock that shows that its owner is running.
    pub(crate) fn fresh() -> Result<(Self, Lock)> {
        let _lock = labs_lock()?;
        loop {
            let mut random = [0; 2];
            getrandom::fill(&mut random).context("no random numbers")?;
            let id = Self(format!("{:04x}", u16::from_ne_bytes(random)));
            match fs::create_dir(id.dir()) {
                Ok(()) => return Lock::wait(&id.owner_lock()).map(|lock| (id, lock)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).context("cannot make the lab's directory"),
            }
        }
    }

    /// Reads an id; none if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 4 && text.bytes().all(digit)).then(|| Self(text.into()))
    }

    /// The four digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory that holds everything of this lab.
    pub fn dir(&self) -> PathBuf {
        labs().join(&self.0)
    }

    pub(crate) fn netns(&self, name: &str) -> String {
        format!("jq-{}-{name}", self.0)
    }

    pub(crate) fn user(&self, host: HostName) -> String {
        format!("jq{}{host}", self.0)
    }

    pub(crate) fn docker_group(&self) -> String {
        format!("jq{}docker", self.0)
    }

    /// A lock that the owner of the lab holds as long as it runs.
    pub(crate) fn owner_lock(&self) -> PathBuf {
        self.dir().join("owner.lock")
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.dir().join("control.sock")
    }
}

/// The ids of all labs that have a directory on this machine, including those whose owner has died.
pub(crate) fn ids() -> Vec<LabId> {
    let entries = fs::read_dir(labs()).into_iter().flatten().flatten();
    let mut ids: Vec<_> = entries
        .filter_map(|entry| LabId::parse(entry.file_name().to_str()?))
        .collect();
    ids.sort();
    ids
}

/// A lock that is held while a lab's directory is created or an abandoned one is removed, so that a new lab is never taken
/// for an abandoned one.
pub(crate) fn labs_lock() -> Result<Lock> {
    Lock::wait(&labs().join(".lock"))
}

/// The parent of the labs' directories. It is short, because the path of a Unix socket has at most 107 bytes.
fn labs() -> PathBuf {
    environment::var_os("JQ_LAB_DIR").map_or_else(|| "/var/lib/jq-lab".into(), PathBuf::from)
}

/// The directory for files that outlive a lab: the engine's images and the browser driver.
pub(crate) fn cache() -> PathBuf {
    environment::var_os("JQ_LAB_CACHE").map_or_else(|| "/var/cache/jq-lab".into(), PathBuf::from)
}

/// The directory for the logs of a lab that was dropped without [`super::Lab::down`], as after a failure.
pub(crate) fn kept_logs(id: &LabId) -> PathBuf {
    labs().join("logs").join(id.as_str())
}

/// Removes all logs that failed labs on this machine have left.
pub fn forget_logs() -> Result<()> {
    let logs = labs().join("logs");
    if !logs.exists() {
        return Ok(());
    }
    fs::remove_dir_all(&logs).with_context(|| format!("cannot remove {}", logs.display()))
}

/// A file lock that lasts until it is dropped or the process ends in any way.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

impl Lock {
    /// Waits for the lock of this file, which is created if it does not exist.
    pub(crate) fn wait(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let file = Self::file(path).with_context(|| format!("cannot open the lock {}", path.display()))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self(file))
    }

    /// Takes the lock. None if another process holds it, or its directory does not exist.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>> {
        let file = match Self::file(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot open the lock {}", path.display()));
            }
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    fn file(path: &Path) -> io::Result<File> {
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
    }
}
