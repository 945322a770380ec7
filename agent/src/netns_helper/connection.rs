//! The agent's side of a helper.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{TcpStream, UnixStream, unix::OwnedReadHalf},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::message::MESSAGE;
use crate::fd_passing;

/// Interval between attempts to connect to a helper that is starting.
const RETRY: Duration = Duration::from_millis(20);

/// How long a process of a container may be closed to its own user: until the container runtime has executed the helper in
/// it (PR_SET_DUMPABLE(2const)).
const STARTING: Duration = Duration::from_secs(5);

/// Where the socket `path` of a container is seen on this host, by the root of the process `pid` in that container
/// (proc_pid_root(5)). Only the process's own user may look there, and root.
pub(crate) fn in_container(pid: u32, path: &str) -> PathBuf {
    format!("/proc/{pid}/root{path}").into()
}

type Pending = HashMap<u32, oneshot::Sender<io::Result<TcpStream>>>;

/// A connection to a helper. Dropping it ends the helper.
pub struct HelperConnection {
    requests: mpsc::Sender<(u16, oneshot::Sender<io::Result<TcpStream>>)>,
    _tasks: JoinSet<()>,
}

impl HelperConnection {
    /// Connects to the helper that listens at `socket`, as soon as it does. With `pid`, to that process only.
    ///
    /// # Errors
    /// `PermissionDenied` when this user may not reach it, or when another user or process listens there; `TimedOut`
    /// when nobody listens in time.
    pub async fn connect(socket: &Path, pid: Option<u32>, deadline: Duration) -> io::Result<Self> {
        let began = Instant::now();
        let is_starting = |error: &io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => true,
            io::ErrorKind::PermissionDenied => began.elapsed() < STARTING,
            _ => false,
        };
        let connect = async {
            loop {
                match UnixStream::connect(socket).await {
                    Err(error) if is_starting(&error) => sleep(RETRY).await,
                    other => return other,
                }
            }
        };
        let stream = timeout(deadline, connect)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the helper does not listen"))??;
        let peer = stream.peer_cred()?;
        let own = rustix::process::geteuid().as_raw();
        let process = peer.pid().map(i32::cast_unsigned);
        if peer.uid() != own || (pid.is_some() && process != pid) {
            let why = "another process listens in the place of the helper";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(Self::over(stream))
    }

    /// The agent's side of a connection to a helper.
    #[must_use]
    pub fn over(stream: UnixStream) -> Self {
        let (requests, requested) = mpsc::channel(256);
        let mut tasks = JoinSet::new();
        tasks.spawn(exchange(stream, requested));
        Self {
            requests,
            _tasks: tasks,
        }
    }

    /// Connects to `port` on the container's 127.0.0.1, then on its ::1.
    ///
    /// # Errors
    /// The error of the connect; `BrokenPipe` when the helper is gone.
    pub async fn dial(&self, port: u16) -> io::Result<TcpStream> {
        let (reply, answered) = oneshot::channel();
        self.requests.send((port, reply)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the helper in the container's network is gone",
    )
}

/// Sends requests and matches replies until either side ends. Requests that are still pending then fail.
async fn exchange(
    stream: UnixStream,
    mut requested: mpsc::Receiver<(u16, oneshot::Sender<io::Result<TcpStream>>)>,
) {
    let (mut reader, mut writer) = stream.into_split();
    let pending = Arc::new(Mutex::new(Pending::new()));
    let send = async {
        let mut id = 0u32;
        while let Some((port, reply)) = requested.recv().await {
            id = id.wrapping_add(1);
            pending
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(id, reply);
            let mut message = [0; MESSAGE];
            message[..4].copy_from_slice(&id.to_be_bytes());
            message[4..6].copy_from_slice(&port.to_be_bytes());
            writer.write_all(&message).await?;
        }
        io::Result::Ok(())
    };
    let receive = async {
        loop {
            let (id, result) = receive_reply(&mut reader).await?;
            let waiter = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            if let Some(waiter) = waiter {
                // Fails when the caller no longer waits; the socket is then closed here.
                let _ = waiter.send(result);
            }
        }
    };
    let ended: io::Result<()> = tokio::select! {
        ended = send => ended,
        ended = receive => ended,
    };
    if let Err(error) = ended {
        tracing::info!(%error, "a network helper ended");
    }
}

async fn receive_reply(reader: &mut OwnedReadHalf) -> io::Result<(u32, io::Result<TcpStream>)> {
    let mut message = [0; MESSAGE];
    let mut filled = 0;
    let mut socket = None;
    while filled < MESSAGE {
        let received = reader
            .as_ref()
            .async_io(Interest::READABLE, || {
                fd_passing::receive(reader.as_ref(), &mut message[filled..])
            })
            .await?;
        if received.bytes == 0 {
            return Err(gone());
        }
        filled += received.bytes;
        socket = socket.or(received.descriptors.into_iter().next_back());
    }
    let id = u32::from_be_bytes([message[0], message[1], message[2], message[3]]);
    let errno = i32::from_be_bytes([message[4], message[5], message[6], message[7]]);
    let result = match (errno, socket) {
        (0, Some(fd)) => adopt(fd),
        // The kernel drops a descriptor that exceeds this process's limit (MSG_CTRUNC, recvmsg(2)).
        (0, None) => Err(io::Error::from_raw_os_error(
            rustix::io::Errno::MFILE.raw_os_error(),
        )),
        (errno, _) => Err(io::Error::from_raw_os_error(errno)),
    };
    Ok((id, result))
}

fn adopt(fd: OwnedFd) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::from(fd);
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
