//! Resume tickets: what a client needs to reconnect to an agent without ssh. A ticket holds the client's certificate and
//! key, the agent's fingerprint and the paths to it. It contains secrets: its file is private (0600), and only one process
//! uses it at a time.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use jq_common::{identity::Identity, private_files, protocol::hex};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::race::KnownAgent;
use crate::state::Folders;

/// The resume ticket of one session, in a file.
pub(crate) struct TicketStore {
    path: PathBuf,
    /// What the ticket depends on: the route and the agent's binary. A ticket for another value is not used.
    route: String,
    /// Lock of the session; without it, nothing is loaded or saved.
    lock: Option<File>,
    saved: Mutex<Option<KnownAgent>>,
}

#[derive(Serialize, Deserialize)]
struct Ticket {
    #[serde(rename = "circumstances")]
    route: String,
    #[serde(with = "hex")]
    certificate: Vec<u8>,
    #[serde(with = "hex")]
    key: Vec<u8>,
    known: KnownAgent,
}

impl TicketStore {
    /// Opens the ticket of the session `name`. If another process runs the session, or the folder cannot be written, the
    /// store stays empty.
    #[must_use]
    pub(crate) fn open(folders: &Folders, name: &str, route: String) -> Self {
        let folder = folders.sessions();
        let lock = take(&folder, name).unwrap_or_else(|error| {
            tracing::info!(%error, "no resume ticket will be saved");
            None
        });
        Self {
            path: folder.join(format!("{name}.way")),
            route,
            lock,
            saved: Mutex::new(None),
        }
    }

    /// The ticket, if there is one for the same route and agent.
    #[must_use]
    pub(crate) fn load(&self) -> Option<(Identity, KnownAgent)> {
        self.lock.as_ref()?;
        let ticket: Ticket = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        if ticket.route != self.route {
            return None;
        }
        let identity = Identity::from_parts(ticket.certificate, ticket.key)?;
        Some((identity, ticket.known))
    }

    /// Saves the ticket if it has changed. On failure, the next run connects over ssh.
    pub(crate) fn save(&self, identity: &Identity, known: &KnownAgent) {
        let Ok(mut saved) = self.saved.lock() else { return };
        if self.lock.is_none() || saved.as_ref() == Some(known) {
            return;
        }
        let (certificate, key) = identity.parts();
        let ticket = Ticket {
            route: self.route.clone(),
            certificate: certificate.to_vec(),
            key: key.to_vec(),
            known: known.clone(),
        };
        match serde_json::to_vec(&ticket)
            .map_err(io::Error::from)
            .and_then(|ticket| private_files::replace(&self.path, &ticket))
        {
            Ok(()) => *saved = Some(known.clone()),
            Err(error) => tracing::info!(%error, "the resume ticket is not saved"),
        }
    }
}

/// Takes the lock of a session. None if another process holds it.
fn take(folder: &Path, name: &str) -> io::Result<Option<File>> {
    private_files::create_folder(folder)?;
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

    use jq_common::identity::Fingerprint;

    use super::*;
    use crate::{
        connection::paths::{Path, RelayHop},
        golden::{Golden, pretty},
    };

    fn folders(state: &tempfile::TempDir) -> Folders {
        Folders {
            state: state.path().to_owned(),
            runtime: state.path().to_owned(),
        }
    }

    fn known(identity: &Identity) -> KnownAgent {
        KnownAgent {
            agent: identity.fingerprint(),
            paths: Vec::new(),
        }
    }

    #[test]
    fn a_ticket_is_private_and_valid_only_for_the_same_route() {
        let state = tempfile::tempdir().unwrap();
        let identity = Identity::generate().unwrap();
        let store = TicketStore::open(&folders(&state), "gpu", "a".to_owned());
        assert!(store.load().is_none());
        store.save(&identity, &known(&identity));
        let (loaded, ticket) = store.load().unwrap();
        assert_eq!(loaded.fingerprint(), identity.fingerprint());
        assert_eq!(ticket, known(&identity));
        assert_eq!(fs::metadata(&store.path).unwrap().mode() & 0o777, 0o600);
        drop(store);
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
    fn a_second_process_of_a_session_neither_uses_nor_changes_the_ticket() {
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

    #[test]
    fn a_ticket_is_what_its_golden_file_says() {
        let relay = RelayHop {
            host: "gw".to_owned(),
            pair: [1; 16],
            secret: [2; 32],
        };
        let agent = Fingerprint::of(&b"a certificate".as_slice().into());
        let kept = Ticket {
            route: "ada@gpu through gw".to_owned(),
            certificate: vec![3; 8],
            key: vec![4; 8],
            known: KnownAgent {
                agent,
                paths: vec![
                    Path::Direct(([192, 0, 2, 1], 60_000).into()),
                    Path::Relay {
                        address: ([192, 0, 2, 2], 60_001).into(),
                        hops: vec![relay],
                    },
                ],
            },
        };
        // Compared as text, because a ticket has no `Debug`: it contains secrets.
        let text = |kept: &Ticket| pretty(&serde_json::to_vec(kept).unwrap());
        let read = |json: &str| serde_json::from_str(json).ok().map(|kept| text(&kept));
        let mut golden = Golden::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/resume_ticket"));
        golden.check("ticket.json", &text(&kept), &text(&kept), read);
        let older = Ticket {
            known: KnownAgent {
                agent,
                paths: Vec::new(),
            },
            ..kept
        };
        golden.is_read_as("older_ticket.json", &text(&older), read);
        golden.is_read_as("newer_ticket.json", &text(&older), read);
        golden.finish();
    }
}
