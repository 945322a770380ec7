//! What leads back to an agent without ssh: who this client is to it, who it is, and the ways to it. Holds secrets; the
//! file is the user's alone (0600), and one process has it at a time.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use jq_common::identity::Identity;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::race::KnownAgent;
use crate::state::{Folders, make_private, write_private};

/// A session's way back.
pub(crate) struct TicketStore {
    path: PathBuf,
    /// What the ways depend on: the target, how ssh gets there, and the agent's binary.
    circumstances: String,
    /// Held while this process has the session; without it nothing is kept.
    lock: Option<File>,
    saved: Mutex<Option<KnownAgent>>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    circumstances: String,
    certificate: Vec<u8>,
    key: Vec<u8>,
    known: KnownAgent,
}

impl TicketStore {
    /// That of the session `name` below `state_dir`. Where another process has the session, or nothing can be kept,
    /// this one remembers nothing.
    #[must_use]
    pub(crate) fn open(folders: &Folders, name: &str, circumstances: String) -> Self {
        let folder = folders.sessions();
        let lock = take(&folder, name).unwrap_or_else(|error| {
            tracing::info!(%error, "nothing will be remembered");
            None
        });
        Self {
            path: folder.join(format!("{name}.way")),
            circumstances,
            lock,
            saved: Mutex::new(None),
        }
    }

    /// What was kept under the same circumstances.
    #[must_use]
    pub(crate) fn load(&self) -> Option<(Identity, KnownAgent)> {
        self.lock.as_ref()?;
        let kept: Kept = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        if kept.circumstances != self.circumstances {
            return None;
        }
        let identity = Identity::from_parts(kept.certificate, kept.key)?;
        Some((identity, kept.known))
    }

    /// Keeps the way back, whole or not at all. Where that fails the next connect goes by ssh, which is no failure.
    pub(crate) fn save(&self, identity: &Identity, known: &KnownAgent) {
        let Ok(mut saved) = self.saved.lock() else { return };
        if self.lock.is_none() || saved.as_ref() == Some(known) {
            return;
        }
        let (certificate, key) = identity.parts();
        let kept = Kept {
            circumstances: self.circumstances.clone(),
            certificate: certificate.to_vec(),
            key: key.to_vec(),
            known: known.clone(),
        };
        match serde_json::to_vec(&kept)
            .map_err(io::Error::from)
            .and_then(|kept| write_private(&self.path, &kept))
        {
            Ok(()) => *saved = Some(known.clone()),
            Err(error) => tracing::info!(%error, "the way back is not remembered"),
        }
    }
}

/// The lock of a session; none while another process has it.
fn take(folder: &Path, name: &str) -> io::Result<Option<File>> {
    make_private(folder)?;
    let file = File::options()
        .append(true)
        .create(true)
        .open(folder.join(format!("{name}.lock")))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn folders(state: &tempfile::TempDir) -> Folders {
        Folders {
            state: state.path().to_owned(),
            runtime: state.path().to_owned(),
        }
    }

    fn known(identity: &Identity) -> KnownAgent {
        KnownAgent {
            agent: identity.fingerprint(),
            ways: Vec::new(),
        }
    }

    #[test]
    fn the_way_back_is_private_and_only_for_the_same_circumstances() {
        let state = tempfile::tempdir().unwrap();
        let identity = Identity::generate().unwrap();
        let memory = TicketStore::open(&folders(&state), "gpu", "a".to_owned());
        assert!(memory.load().is_none());
        memory.save(&identity, &known(&identity));
        let (loaded, way) = memory.load().unwrap();
        assert_eq!(loaded.fingerprint(), identity.fingerprint());
        assert_eq!(way, known(&identity));
        assert_eq!(fs::metadata(&memory.path).unwrap().mode() & 0o777, 0o600);
        drop(memory);
        assert!(
            TicketStore::open(&folders(&state), "gpu", "b".to_owned())
                .load()
                .is_none()
        );
        fs::write(state.path().join("sessions/gpu.way"), "{").unwrap();
        assert!(
            TicketStore::open(&folders(&state), "gpu", "a".to_owned())
                .load()
                .is_none()
        );
    }

    #[test]
    fn a_second_process_of_a_session_neither_takes_nor_changes_the_way_back() {
        let state = tempfile::tempdir().unwrap();
        let identity = Identity::generate().unwrap();
        let first = TicketStore::open(&folders(&state), "gpu", "a".to_owned());
        first.save(&identity, &known(&identity));
        let second = TicketStore::open(&folders(&state), "gpu", "a".to_owned());
        assert!(second.load().is_none());
        let other = Identity::generate().unwrap();
        second.save(&other, &known(&other));
        assert_eq!(first.load().unwrap().1, known(&identity));
    }
}
