//! All that an agent leaves to its successor, and its way there: one file in memory and many descriptors.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    net::UdpSocket,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
};

use bytes::Bytes;
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use super::header::Header;
use crate::{bootstrap::contract::SNAPSHOT_FORMATS, fd_passing};

/// Longest head, in bytes: far more than any agent has.
const LONGEST_HEAD: u64 = 256 * 1024 * 1024;

/// What an agent leaves.
pub(crate) struct Snapshot {
    pub(crate) head: Header,
    pub(crate) udp: UdpSocket,
    /// Who waits to hear that the successor is there.
    pub(crate) asker: Option<UnixStream>,
    /// Of the private folders in whose place the agent answers.
    pub(crate) locks: Vec<File>,
    /// On their control sockets.
    pub(crate) controls: Vec<UnixListener>,
    /// In the order of the streams that have one.
    pub(crate) sockets: Vec<OwnedFd>,
    /// What the send buffer of each stream holds, in the order of the streams.
    pub(crate) held: Vec<Vec<Bytes>>,
}

/// The head of what is written down.
#[derive(Serialize, Deserialize)]
struct Head<D, A> {
    descriptors: D,
    agent: A,
}

/// How many descriptors there are of each kind.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Descriptors {
    locks: usize,
    controls: usize,
    sockets: usize,
    /// Whether somebody waits.
    asker: bool,
}

impl Snapshot {
    /// That of an agent which begins.
    pub(crate) fn new(head: Header, udp: UdpSocket, lock: File) -> Self {
        Self {
            head,
            udp,
            asker: None,
            locks: vec![lock],
            controls: Vec::new(),
            sockets: Vec::new(),
            held: Vec::new(),
        }
    }

    /// A socket with everything in it in this format, for [`Snapshot::unpack`]. The snapshot stays as it is.
    ///
    /// # Errors
    /// When the system lacks memory or descriptors.
    pub(super) fn pack(&self, format: u32) -> io::Result<OwnedFd> {
        let written = self.write(format)?;
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![written.as_fd(), self.udp.as_fd()];
        descriptors.extend(self.asker.as_ref().map(AsFd::as_fd));
        descriptors.extend(self.locks.iter().map(AsFd::as_fd));
        descriptors.extend(self.controls.iter().map(AsFd::as_fd));
        descriptors.extend(self.sockets.iter().map(AsFd::as_fd));
        fd_passing::pack(&descriptors)
    }

    fn write(&self, format: u32) -> io::Result<File> {
        let file = File::from(rustix::fs::memfd_create("jq-agent", MemfdFlags::CLOEXEC)?);
        let mut writer = BufWriter::new(file);
        writer.write_all(&format.to_be_bytes())?;
        let descriptors = Descriptors {
            locks: self.locks.len(),
            controls: self.controls.len(),
            sockets: self.sockets.len(),
            asker: self.asker.is_some(),
        };
        let head = serde_json::to_vec(&Head {
            descriptors,
            agent: &self.head,
        })?;
        writer.write_all(&(head.len() as u64).to_be_bytes())?;
        writer.write_all(&head)?;
        for bytes in self.held.iter().flatten() {
            writer.write_all(bytes)?;
        }
        writer.into_inner().map_err(io::IntoInnerError::into_error)
    }

    /// What the predecessor left in `socket`.
    ///
    /// # Errors
    /// When it left something else.
    pub(super) fn unpack(socket: impl AsFd) -> io::Result<Self> {
        let mut descriptors = fd_passing::unpack(socket)?.into_iter();
        let mut next = || {
            descriptors
                .next()
                .ok_or_else(|| nonsense("a descriptor is missing"))
        };
        let mut written = BufReader::new(File::from(next()?));
        let udp = UdpSocket::from(next()?);
        written.rewind()?;
        let (count, head) = read_head(&mut written)?;
        let asker = count.asker.then(&mut next).transpose()?.map(UnixStream::from);
        let locks = (0..count.locks).map(|_| Ok(File::from(next()?)));
        let locks = locks.collect::<io::Result<_>>()?;
        let controls = (0..count.controls).map(|_| Ok(UnixListener::from(next()?)));
        let controls = controls.collect::<io::Result<_>>()?;
        let sockets = (0..count.sockets).map(|_| next()).collect::<io::Result<_>>()?;
        let streams = head.sessions.iter().flat_map(|session| &session.streams);
        let held = streams.map(|stream| read_held(&mut written, stream.core.send_buffer.held));
        let held = held.collect::<io::Result<_>>()?;
        Ok(Self {
            head,
            udp,
            asker,
            locks,
            controls,
            sockets,
            held,
        })
    }
}

fn read_head(written: &mut impl Read) -> io::Result<(Descriptors, Header)> {
    let mut format = [0; 4];
    written.read_exact(&mut format)?;
    let format = u32::from_be_bytes(format);
    if !(SNAPSHOT_FORMATS.oldest..=SNAPSHOT_FORMATS.newest).contains(&format) {
        return Err(nonsense("another format"));
    }
    let mut length = [0; 8];
    written.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    if length > LONGEST_HEAD {
        return Err(nonsense("a head too long"));
    }
    let mut head = Vec::new();
    written.take(length).read_to_end(&mut head)?;
    let Head { descriptors, agent } = serde_json::from_slice(&head)?;
    Ok((descriptors, agent))
}

fn read_held(written: &mut impl Read, length: u64) -> io::Result<Vec<Bytes>> {
    let mut held = Vec::new();
    written.take(length).read_to_end(&mut held)?;
    if held.len() as u64 == length {
        Ok(vec![held.into()])
    } else {
        Err(nonsense("bytes are missing"))
    }
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use jq_common::{
        identity::Fingerprint,
        protocol::{
            stream::StreamHeader,
            target::Target,
            topics::Topic,
            workload::{Request, WorkloadSpec},
        },
        session::core::{StreamSnapshot, send_buffer},
    };

    use super::*;
    use crate::{
        golden::{Golden, pretty},
        serve::handover::header::{SessionState, StreamState, WorkState},
    };

    fn streams() -> Vec<StreamState> {
        let start = Request::Start(Box::new(WorkloadSpec {
            session: "gpu".to_owned(),
            ..WorkloadSpec::default()
        }));
        let work = [
            WorkState::Begin(StreamHeader::Request(start)),
            WorkState::Begin(StreamHeader::forward(Target::workload(8888))),
            WorkState::Tcp,
            WorkState::Unix,
            WorkState::Over,
        ];
        let core = StreamSnapshot {
            send_buffer: send_buffer::Snapshot {
                acked: 1000,
                reached: 2000,
                window: 262_144,
                held: 1500,
                finished: true,
                end_acked: false,
            },
            delivered: 70_000,
            ended: true,
            reset: Some(2),
        };
        let state = |(id, work)| StreamState {
            id,
            core: core.clone(),
            work,
        };
        (0..).zip(work).map(state).collect()
    }

    fn header() -> Header {
        Header {
            certificate: vec![1; 8],
            key: vec![2; 8],
            reset_secret: [3; 32],
            boot: [4; 16],
            linger_s: 86_400,
            allowed: vec![fingerprint()],
            sessions: vec![SessionState {
                client: fingerprint(),
                id: [5; 16],
                epoch: [6; 16],
                keep_s: 3600,
                generation: 7,
                workload: Some(WorkloadSpec {
                    session: "gpu".to_owned(),
                    ..WorkloadSpec::default()
                }),
                engine: "Docker 28".to_owned(),
                container: Some("jq-ada-gpu".to_owned()),
                topics: vec![Topic::Workload],
                streams: streams(),
            }],
        }
    }

    fn fingerprint() -> Fingerprint {
        Fingerprint::of(&b"a certificate".as_slice().into())
    }

    /// The head, which has secrets and therefore no words of its own.
    fn text(descriptors: &Descriptors, agent: &Header) -> String {
        pretty(&serde_json::to_vec(&Head { descriptors, agent }).unwrap())
    }

    fn read(json: &str) -> Option<String> {
        let head: Head<Descriptors, Header> = serde_json::from_str(json).ok()?;
        Some(text(&head.descriptors, &head.agent))
    }

    #[test]
    fn the_head_of_a_handover_is_what_its_golden_file_says() {
        let descriptors = Descriptors {
            locks: 2,
            controls: 2,
            sockets: 1,
            asker: true,
        };
        let written = text(&descriptors, &header());
        let mut golden = Golden::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/handover"));
        golden.check("head.json", &written, &written, read);
        golden.is_read_as("newer_head.json", &written, read);
        let mut older = header();
        older.linger_s = 0;
        older.allowed = Vec::new();
        older.sessions[0].keep_s = 0;
        older.sessions[0].workload = None;
        older.sessions[0].engine = String::new();
        older.sessions[0].container = None;
        older.sessions[0].topics = Vec::new();
        older.sessions[0].streams.truncate(1);
        older.sessions[0].streams[0].core = StreamSnapshot::default();
        let descriptors = Descriptors {
            locks: 1,
            ..Descriptors::default()
        };
        golden.is_read_as("older_head.json", &text(&descriptors, &older), read);
        golden.finish();
    }
}
