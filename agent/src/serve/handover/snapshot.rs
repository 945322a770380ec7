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
use jq_common::{
    bootstrap::FormatRange,
    identity::Fingerprint,
    protocol::{
        hex,
        session::{BootId, Epoch, SessionId, StreamId},
        stream::StreamHeader,
        topics::Topic,
        workload::WorkloadSpec,
    },
    session::core,
};
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use crate::fd_passing;

/// The formats of what is left that this build reads; it writes the newest that its successor reads too. Another one is
/// needed only for what defaults cannot bridge: the [`Header`] is JSON, whose fields may come and go. Format 1 was never
/// released. Builds without a format in common refuse each other before anything is touched.
pub(crate) const FORMATS: FormatRange = FormatRange { oldest: 2, newest: 2 };

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

/// What can be written down.
#[derive(Serialize, Deserialize)]
pub(crate) struct Header {
    #[serde(with = "hex")]
    pub(crate) certificate: Vec<u8>,
    #[serde(with = "hex")]
    pub(crate) key: Vec<u8>,
    #[serde(with = "hex")]
    pub(crate) reset_secret: [u8; 32],
    #[serde(with = "hex")]
    pub(crate) boot: BootId,
    /// How long the agent stays when nobody is connected, in seconds.
    #[serde(default)]
    pub(crate) linger_s: u64,
    #[serde(default)]
    pub(crate) allowed: Vec<Fingerprint>,
    #[serde(default)]
    pub(crate) sessions: Vec<SessionState>,
}

/// A session without a connection.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionState {
    pub(crate) client: Fingerprint,
    #[serde(with = "hex")]
    pub(crate) id: SessionId,
    #[serde(with = "hex")]
    pub(crate) epoch: Epoch,
    /// How long it is kept without a connection, in seconds.
    #[serde(default)]
    pub(crate) keep_s: u64,
    /// Of the last connection that carried it.
    pub(crate) generation: u64,
    /// The workload that runs for it.
    pub(crate) workload: Option<WorkloadSpec>,
    /// The engine that runs it, for the user.
    #[serde(default)]
    pub(crate) engine: String,
    /// The name of its container.
    pub(crate) container: Option<String>,
    /// What the client subscribed to.
    #[serde(default)]
    pub(crate) topics: Vec<Topic>,
    #[serde(default)]
    pub(crate) streams: Vec<StreamState>,
}

/// A stream between two attachments.
#[derive(Serialize, Deserialize)]
pub(crate) struct StreamState {
    pub(crate) id: StreamId,
    pub(crate) core: core::Snapshot,
    pub(crate) work: WorkState,
}

/// What is left to do for a stream.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WorkState {
    /// Everything.
    Begin(StreamHeader),
    /// To carry a TCP connection.
    Tcp,
    /// To carry a Unix connection.
    Unix,
    /// Nothing but to tell that it was reset.
    Over,
}

/// What is written down, as a whole.
#[derive(Serialize, Deserialize)]
struct Written<D, A> {
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
        let head = serde_json::to_vec(&Written {
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
    if !(FORMATS.oldest..=FORMATS.newest).contains(&format) {
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
    let Written { descriptors, agent } = serde_json::from_slice(&head)?;
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
