//! Everything that an agent hands over to its successor, as one file in memory and many descriptors.

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

/// Longest header, in bytes; far more than any agent has.
const LONGEST_HEADER: u64 = 256 * 1024 * 1024;

/// Everything that an agent hands over.
pub(crate) struct Snapshot {
    pub(crate) header: Header,
    pub(crate) udp: UdpSocket,
    /// The bootstrap that waits for the result of the upgrade.
    pub(crate) requester: Option<UnixStream>,
    /// Locks of the private folders for which the agent answers.
    pub(crate) locks: Vec<File>,
    /// The control sockets in these folders.
    pub(crate) controls: Vec<UnixListener>,
    /// Sockets of the streams, in the order of the streams that have one.
    pub(crate) sockets: Vec<OwnedFd>,
    /// Content of each stream's send buffer, in the order of the streams.
    pub(crate) send_buffers: Vec<Vec<Bytes>>,
}

/// What is written before the send buffers.
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
    /// Whether a bootstrap waits for the result.
    requester: bool,
}

impl Snapshot {
    /// The snapshot of an agent that has just started.
    pub(crate) fn new(header: Header, udp: UdpSocket, lock: File) -> Self {
        Self {
            header,
            udp,
            requester: None,
            locks: vec![lock],
            controls: Vec::new(),
            sockets: Vec::new(),
            send_buffers: Vec::new(),
        }
    }

    /// Writes everything in this format into a socket for [`Snapshot::unpack`]. The snapshot itself is unchanged.
    ///
    /// # Errors
    /// When the system lacks memory or descriptors.
    pub(super) fn pack(&self, format: u32) -> io::Result<OwnedFd> {
        let written = self.write(format)?;
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![written.as_fd(), self.udp.as_fd()];
        descriptors.extend(self.requester.as_ref().map(AsFd::as_fd));
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
            requester: self.requester.is_some(),
        };
        let header = serde_json::to_vec(&Head {
            descriptors,
            agent: &self.header,
        })?;
        writer.write_all(&(header.len() as u64).to_be_bytes())?;
        writer.write_all(&header)?;
        for bytes in self.send_buffers.iter().flatten() {
            writer.write_all(bytes)?;
        }
        writer.into_inner().map_err(io::IntoInnerError::into_error)
    }

    /// Reads the snapshot that the predecessor wrote into `socket`.
    ///
    /// # Errors
    /// When the content is incomplete or in another format.
    pub(super) fn unpack(socket: impl AsFd) -> io::Result<Self> {
        let mut descriptors = fd_passing::unpack(socket)?.into_iter();
        let mut next = || {
            descriptors
                .next()
                .ok_or_else(|| invalid("a descriptor is missing"))
        };
        let mut written = BufReader::new(File::from(next()?));
        let udp = UdpSocket::from(next()?);
        written.rewind()?;
        let (count, header) = read_header(&mut written)?;
        let requester = count.requester.then(&mut next).transpose()?.map(UnixStream::from);
        let locks = (0..count.locks).map(|_| Ok(File::from(next()?)));
        let locks = locks.collect::<io::Result<_>>()?;
        let controls = (0..count.controls).map(|_| Ok(UnixListener::from(next()?)));
        let controls = controls.collect::<io::Result<_>>()?;
        let sockets = (0..count.sockets).map(|_| next()).collect::<io::Result<_>>()?;
        let streams = header.sessions.iter().flat_map(|session| &session.streams);
        let send_buffers = streams.map(|stream| read_send_buffer(&mut written, stream.core.send_buffer.held));
        let send_buffers = send_buffers.collect::<io::Result<_>>()?;
        Ok(Self {
            header,
            udp,
            requester,
            locks,
            controls,
            sockets,
            send_buffers,
        })
    }
}

/// Reads a whole snapshot except its descriptors.
#[cfg(feature = "fuzzing")]
pub(crate) fn read(written: &mut impl Read) -> io::Result<()> {
    let (_, header) = read_header(written)?;
    let mut streams = header.sessions.iter().flat_map(|session| &session.streams);
    streams.try_for_each(|stream| read_send_buffer(written, stream.core.send_buffer.held).map(drop))
}

fn read_header(written: &mut impl Read) -> io::Result<(Descriptors, Header)> {
    let mut format = [0; 4];
    written.read_exact(&mut format)?;
    let format = u32::from_be_bytes(format);
    if !(SNAPSHOT_FORMATS.oldest..=SNAPSHOT_FORMATS.newest).contains(&format) {
        return Err(invalid("another format"));
    }
    let mut length = [0; 8];
    written.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    if length > LONGEST_HEADER {
        return Err(invalid("header too long"));
    }
    let mut header = Vec::new();
    written.take(length).read_to_end(&mut header)?;
    let Head { descriptors, agent } = serde_json::from_slice(&header)?;
    Ok((descriptors, agent))
}

fn read_send_buffer(written: &mut impl Read, length: u64) -> io::Result<Vec<Bytes>> {
    let mut held = Vec::new();
    written.take(length).read_to_end(&mut held)?;
    if held.len() as u64 == length {
        Ok(vec![held.into()])
    } else {
        Err(invalid("buffered bytes are missing"))
    }
}

fn invalid(what: &str) -> io::Error {
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
            WorkState::NotStarted(StreamHeader::Request(start)),
            WorkState::NotStarted(StreamHeader::forward(Target::workload(8888))),
            WorkState::Tcp,
            WorkState::Unix,
            WorkState::Reset,
        ];
        let core = StreamSnapshot {
            send_buffer: send_buffer::Snapshot {
                acked: 1000,
                highest_sent: 2000,
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
            umask: Some(0o027),
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
            requester: true,
        };
        let written = text(&descriptors, &header());
        let mut golden = Golden::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/handover"));
        golden.check("head.json", &written, &written, read);
        golden.is_read_as("newer_head.json", &written, read);
        let mut older = header();
        older.linger_s = 0;
        older.umask = None;
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
