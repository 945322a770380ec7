//! Directories of labs on this machine, and the names that a lab gives. The only reader of the lab's own
//! variables.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::plan::HostName;
use crate::environment;

/// Four hexadecimal digits that all names of one lab contain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LabId(String);

impl LabId {
    /// One that no lab of this machine has, with its directory, and the lock that says that its owner lives.
    pub(crate) fn fresh() -> Result<(Self, Lock)> {
        let _turn = turn()?;
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

    /// Held by the process that the lab belongs to, for as long as it lives.
    pub(crate) fn owner_lock(&self) -> PathBuf {
        self.dir().join("owner.lock")
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.dir().join("control.sock")
    }
}

/// The ids that have a directory on this machine, of living labs and of dead ones.
pub(crate) fn ids() -> Vec<LabId> {
    let entries = fs::read_dir(labs()).into_iter().flatten().flatten();
    let mut ids: Vec<_> = entries
        .filter_map(|entry| LabId::parse(entry.file_name().to_str()?))
        .collect();
    ids.sort();
    ids
}

/// Held while a lab's directory is made or an abandoned one removed, so that a new lab is never taken for an
/// abandoned one.
pub(crate) fn turn() -> Result<Lock> {
    Lock::wait(&labs().join(".lock"))
}

/// Where labs' directories are. Short, because paths of Unix sockets have at most 107 bytes.
fn labs() -> PathBuf {
    environment::var_os("JQ_LAB_DIR").map_or_else(|| "/var/lib/jq-lab".into(), PathBuf::from)
}

/// Where what outlives a lab is kept: the engine's images, the browser driver.
pub(crate) fn cache() -> PathBuf {
    environment::var_os("JQ_LAB_CACHE").map_or_else(|| "/var/cache/jq-lab".into(), PathBuf::from)
}

/// Where the logs of a lab are kept that was dropped without [`super::Lab::down`], as after a failure.
pub(crate) fn kept_logs(id: &LabId) -> PathBuf {
    labs().join("logs").join(id.as_str())
}

/// Removes all logs that labs of this machine left for reading.
pub fn forget_logs() -> Result<()> {
    let logs = labs().join("logs");
    if !logs.exists() {
        return Ok(());
    }
    fs::remove_dir_all(&logs).with_context(|| format!("cannot remove {}", logs.display()))
}

/// A lock that lasts until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "closing the file is what gives the lock back")] File);

impl Lock {
    /// Waits until nobody else holds the lock of this file, which is made if it is not there.
    pub(crate) fn wait(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let file = Self::file(path).with_context(|| format!("cannot open the lock {}", path.display()))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self(file))
    }

    /// Takes the lock, or gives none if somebody holds it or its directory is gone.
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
