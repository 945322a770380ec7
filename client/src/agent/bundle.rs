//! Agent binaries by CPU architecture: built into the client, or files beside it.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use jq_common::protocol::hex;
use sha2::{Digest, Sha256};

use crate::error::{Failure, Kind};

/// A binary that the build script embedded.
struct Embedded {
    machine: &'static str,
    sha256: &'static str,
    length: u64,
    packed: &'static [u8],
}

static EMBEDDED: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/agents.rs"));

/// Supported architectures as printed by `uname -m`, each with its alias.
const MACHINES: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];

/// The agents that this client can install on hosts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bundle(Vec<Agent>);

/// The agent binary for one architecture.
#[derive(Clone)]
pub(crate) struct Agent {
    machine: &'static str,
    sha256: String,
    length: u64,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Packed(&'static [u8]),
    Raw(Arc<[u8]>),
}

impl Bundle {
    /// Finds one agent for each architecture, in this order: files `jq-agent-MACHINE` in `folder`, given by the user; the
    /// embedded ones; files beside `executable`, in `agents/` beside it, and in `../lib/jq/`.
    ///
    /// # Errors
    /// When `folder` contains none, or a file cannot be read.
    pub(crate) fn find(folder: Option<&Path>, executable: Option<&Path>) -> Result<Self, Failure> {
        let mut bundle = Self::default();
        if let Some(folder) = folder {
            bundle.add_files(folder)?;
            if bundle.0.is_empty() {
                return Err(Failure::new(Kind::Usage, "the given folder contains no agent")
                    .because(format!(
                        "{} contains no jq-agent-x86_64 or jq-agent-aarch64",
                        folder.display()
                    ))
                    .hint("build one with deploy/build-agent, which puts it in target/agents"));
            }
        }
        for embedded in EMBEDDED {
            bundle.add(Agent {
                machine: embedded.machine,
                sha256: embedded.sha256.to_owned(),
                length: embedded.length,
                content: Content::Packed(embedded.packed),
            });
        }
        if let Some(beside) = executable.and_then(Path::parent) {
            for folder in [beside.to_owned(), beside.join("agents"), beside.join("../lib/jq")] {
                bundle.add_files(&folder)?;
            }
        }
        Ok(bundle)
    }

    fn add(&mut self, agent: Agent) {
        if self.0.iter().all(|other| other.machine != agent.machine) {
            self.0.push(agent);
        }
    }

    fn add_files(&mut self, folder: &Path) -> Result<(), Failure> {
        for (machine, _) in MACHINES {
            let path = folder.join(format!("jq-agent-{machine}"));
            match fs::read(&path) {
                Ok(raw) => self.add(Agent::new(machine, raw)),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(e) => return Err(unreadable(&path, &e)),
            }
        }
        Ok(())
    }

    /// The agent for the architecture `name`, as printed by `uname -m`.
    #[must_use]
    pub(crate) fn for_machine(&self, name: &str) -> Option<&Agent> {
        let (machine, _) = MACHINES
            .iter()
            .find(|(machine, other)| name == *machine || name == *other)?;
        self.0.iter().find(|agent| agent.machine == *machine)
    }

    /// All agents.
    #[must_use]
    pub(crate) fn agents(&self) -> &[Agent] {
        &self.0
    }
}

#[cfg(test)]
impl Bundle {
    /// A bundle of exactly these agents.
    pub(crate) fn of(agents: impl IntoIterator<Item = Agent>) -> Self {
        Self(agents.into_iter().collect())
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::Local, "cannot read the agent").because(format!("{}: {error}", path.display()))
}

impl Agent {
    /// An agent for `machine` (`x86_64` or `aarch64`).
    #[must_use]
    pub(crate) fn new(machine: &'static str, raw: Vec<u8>) -> Self {
        Self {
            machine,
            sha256: hex::encode(&Sha256::digest(&raw)),
            length: raw.len() as u64,
            content: Content::Raw(raw.into()),
        }
    }

    /// Names of its architecture that `uname -m` may print.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        let machine = self.machine;
        let names = MACHINES.iter().filter(move |(name, _)| *name == machine);
        names.flat_map(|(name, other)| [*name, *other])
    }

    /// Its architecture, as printed by `uname -m`.
    #[must_use]
    pub(crate) fn machine(&self) -> &'static str {
        self.machine
    }

    /// SHA-256 of the binary in lower-case hexadecimal.
    #[must_use]
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Length of the binary in bytes.
    #[must_use]
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// File name on a host. It contains the hash, so that several versions can coexist.
    #[must_use]
    pub(crate) fn file_name(&self) -> String {
        format!("agent-{}", &self.sha256[..16])
    }

    /// The binary, compressed with gzip. Takes CPU time: not for a thread that must not block.
    ///
    /// # Errors
    /// Only when compression itself fails.
    pub(crate) fn packed(&self) -> io::Result<Vec<u8>> {
        match &self.content {
            Content::Packed(bytes) => Ok(bytes.to_vec()),
            Content::Raw(raw) => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(raw)?;
                encoder.finish()
            }
        }
    }

    /// The binary. Takes CPU time: not for a thread that must not block.
    ///
    /// # Errors
    /// When the embedded data is corrupt.
    pub(crate) fn raw(&self) -> io::Result<Vec<u8>> {
        match &self.content {
            Content::Packed(bytes) => {
                let mut raw = Vec::new();
                GzDecoder::new(*bytes)
                    .take(self.length + 1)
                    .read_to_end(&mut raw)?;
                Ok(raw)
            }
            Content::Raw(raw) => Ok(raw.to_vec()),
        }
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("machine", &self.machine)
            .field("sha256", &self.sha256)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_found_by_any_name_of_their_machine() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("jq-agent-x86_64"), b"first").unwrap();
        let bundle = Bundle::find(Some(folder.path()), None).unwrap();
        for name in ["x86_64", "amd64"] {
            assert_eq!(bundle.for_machine(name).unwrap().raw().unwrap(), b"first");
        }
        assert!(bundle.for_machine("riscv64").is_none());
        assert!(bundle.for_machine("").is_none());
    }

    #[test]
    fn a_folder_named_by_the_user_comes_before_what_lies_beside_the_executable() {
        let (named, installed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let executable = installed.path().join("bin/jq-client");
        for folder in ["bin", "lib/jq"] {
            fs::create_dir_all(installed.path().join(folder)).unwrap();
        }
        fs::write(named.path().join("jq-agent-x86_64"), b"named").unwrap();
        fs::write(installed.path().join("bin/jq-agent-x86_64"), b"beside").unwrap();
        fs::write(installed.path().join("lib/jq/jq-agent-aarch64"), b"in lib").unwrap();
        let bundle = Bundle::find(Some(named.path()), Some(&executable)).unwrap();
        assert_eq!(bundle.for_machine("x86_64").unwrap().raw().unwrap(), b"named");
        assert_eq!(bundle.for_machine("arm64").unwrap().raw().unwrap(), b"in lib");
        assert_eq!(
            Bundle::find(Some(&executable), None).unwrap_err().kind,
            Kind::Usage
        );
    }

    #[test]
    fn packing_loses_nothing_and_the_name_tells_the_content() {
        let agent = Agent::new("x86_64", b"content".repeat(1000));
        let mut unpacked = Vec::new();
        GzDecoder::new(agent.packed().unwrap().as_slice())
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, agent.raw().unwrap());
        assert_eq!(agent.length(), 7000);
        assert_eq!(agent.file_name().len(), "agent-".len() + 16);
        assert_ne!(
            agent.file_name(),
            Agent::new("x86_64", b"other".to_vec()).file_name()
        );
    }
}
